"""The hosts that handlers declare with `@uses(calls=...)`, and the limits of their calls. Pure."""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from yarl import URL

from spokes.run_limits import Rate, read_run_limits

DEFAULT_TIMEOUT_S: Final = 10.0
DEFAULT_CONNECTIONS: Final = 10
_MAX_CONNECTIONS: Final = 1_000
_SCHEMES: Final = ("https", "http")
_NAME: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?", re.ASCII)
_NUMBERS: Final = re.compile(r"[0-9.]+", re.ASCII)  # what only an address of IPv4 may look like
_SHAPE: Final = 'Write calls=("https://erp.example.com",), with the comma.'


@dataclass(frozen=True, slots=True)
class Host:
    """A system of your own, with limits of its calls: `@uses(calls=(Host("https://erp.example.com", rate="10/s"),))`.

    Several handlers may declare a host. What one of them declares holds for all; two different values are refused.

    Attributes:
        url: scheme, name and perhaps port, without a path.
        rate: most calls in all workers together: "10/s", "100/min", "5/h".
        connections: most calls at a time in one worker, 10 by default.
        timeout_s: most seconds of one call, 10 by default.
    """

    url: str
    rate: str | None = None
    connections: int | None = None
    timeout_s: float | None = None


class HostLimits(NamedTuple):
    """The limits of all calls of a host."""

    rate: Rate | None = None
    connections: int = DEFAULT_CONNECTIONS
    timeout_s: float = DEFAULT_TIMEOUT_S


def read_declared_hosts(declared: object) -> tuple[Mapping[str, Host], tuple[str, ...]]:
    """Return the valid hosts that `calls` declares, by origin, and one sentence for each fault."""
    if not isinstance(declared, tuple | list | set | frozenset):
        return {}, (f"`calls` takes a tuple of hosts. {_SHAPE}",)
    hosts: dict[str, Host] = {}
    faults: list[str] = []
    for member in declared:
        host = Host(member) if isinstance(member, str) else member
        if not isinstance(host, Host):
            faults.append(f"`calls` names {type(member).__name__}, which is no host. {_SHAPE}")
            continue
        origin, fault = _read_origin(host.url)
        _, wrong_limits = read_run_limits(host.timeout_s, None, None, host.rate)
        wrong_limits = tuple(limit.replace("` ", f"` of {origin or 'a host'} ", 1) for limit in wrong_limits)
        if fault or wrong_limits or (fault := _connections_fault(host.connections)):
            faults += [*filter(None, [fault]), *wrong_limits]
            continue
        host = replace(host, url=origin)
        if hosts.setdefault(origin, host) != host:
            faults.append(f"`calls` names {origin} twice, with different limits: declare it once.")
    return hosts, tuple(faults)


def merge_hosts(declarations: Iterable[tuple[str, Mapping[str, Host]]]) -> tuple[dict[str, HostLimits], list[str]]:
    """Return the limits of each host, from the declarations of all handlers, and one sentence for each contradiction.

    Args:
        declarations: the place of each handler, and its hosts by origin.
    """
    merged: dict[str, tuple[str, Host]] = {}
    faults: list[str] = []
    for place, hosts in declarations:
        for origin, host in hosts.items():
            other_place, other = merged.get(origin, (place, host))
            for name in ("rate", "connections", "timeout_s"):
                before, now = getattr(other, name), getattr(host, name)
                if None not in {before, now} and before != now:
                    faults.append(
                        f"{place}: {name}={now!r} of {origin} contradicts {name}={before!r} at {other_place}. A host "
                        "has one value for all handlers: declare it once, and only the URL elsewhere."
                    )
                elif before is None:
                    other = replace(other, **{name: now})
            merged[origin] = (other_place, other)
    return {origin: _limits(host) for origin, (_, host) in merged.items()}, faults


def is_private(address: str) -> bool:
    """Return whether an IP address is reachable only from inside: private, loopback, link-local or unspecified."""
    return not ipaddress.ip_address(address.partition("%")[0]).is_global


def without_final_dot(url: URL) -> URL:
    """Return a URL whose host is written without the dot of the root: `erp.example.com.` is the same host."""
    host = url.raw_host or ""
    return url.with_host(host.rstrip(".")) if host.strip(".") and host.endswith(".") else url


def _limits(host: Host) -> HostLimits:
    limits, _ = read_run_limits(None, None, None, host.rate)
    return HostLimits(limits.rate, host.connections or DEFAULT_CONNECTIONS, host.timeout_s or DEFAULT_TIMEOUT_S)


def _read_origin(text: object) -> tuple[str, str]:
    """Return the origin that a declared URL names, and the sentence if it names none."""
    if not isinstance(text, str):
        return "", f"`calls` names {type(text).__name__}, which is no host. {_SHAPE}"
    try:
        url = without_final_dot(URL(text))
        origin = url.origin()
    except ValueError:
        url = origin = URL()
    if not origin.host or origin.scheme not in _SCHEMES:
        hint = f"https://{text}" if _NAME.fullmatch(text.casefold()) else "https://erp.example.com"
        return "", f"`calls` names a host that is no URL with https:// or http://. Write {hint!r}."
    if url.user is not None or url.password is not None:
        return "", "`calls` names a host with a user or password: pass secrets in a header, read from settings."
    if url.path not in {"", "/"} or url.query_string or url.fragment:
        return "", f"`calls` names a path, and declares whole hosts. Write {str(origin)!r}."
    return (str(origin), "") if not (fault := _origin_fault(origin)) else ("", fault)


def _origin_fault(origin: URL) -> str:
    """Return why an origin is no host, the empty text if it is one."""
    if origin.port == 0:
        return f"`calls` names port 0, which no host has. Write {str(origin.with_port(None))!r}, or the right port."
    host = origin.host or ""
    is_name = _NAME.fullmatch(origin.raw_host or "") and not _NUMBERS.fullmatch(host)
    if not (is_name or _is_address(host)):
        return f"`calls` names {host!r}, which is no name of one host. Declare each host by itself."
    return ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _connections_fault(connections: object) -> str:
    is_count = isinstance(connections, int) and not isinstance(connections, bool)
    if connections is None or (is_count and 1 <= connections <= _MAX_CONNECTIONS):  # type: ignore[operator]  # `is_count` has checked it
        return ""
    return "`connections` takes a whole number of calls at a time, from 1 to 1000. Write connections=10."
