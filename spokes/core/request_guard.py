"""Check that a request came over HTTPS and from an allowed address; find the client address behind our proxies.

A forwarded header may occur on several lines; together they are one list. Each of our proxies appends to its right end,
so entries are counted from there. Everything further left is the sender's own.
"""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from spokes.core.errors import RejectedRequest
from spokes.core.refusals import Refusal

_IPV6_SUBSCRIBER_BITS: Final = 64  # providers assign at least a /64 to one customer


def check_sender(
    headers: Mapping[str, str],
    peer: str | None,
    *,
    proxies: int,
    networks: Sequence[IPv4Network | IPv6Network],
) -> str:
    """Return the client address of a request, if the request is allowed.

    Args:
        headers: of the request.
        peer: the address of the connection's other end.
        proxies: the number of our own proxies in front of the process; 0 for none.
        networks: the allowed networks; empty allows all.

    Raises:
        RejectedRequest: the request came to our proxy over plain HTTP, from a network that is not allowed, or our
            outermost proxy passed on no address.
    """
    sender = _forwarded_address(headers, proxies)
    if sender is None:
        sender = peer or ""
    elif not sender:
        raise RejectedRequest(Refusal.ADDRESS_NOT_ALLOWED)
    if proxies and not is_https(headers, proxies):
        raise RejectedRequest(Refusal.NOT_HTTPS)
    if networks and not _is_in_networks(sender, networks):
        raise RejectedRequest(Refusal.ADDRESS_NOT_ALLOWED)
    return sender


def is_https(headers: Mapping[str, str], proxies: int) -> bool:
    """Return whether our outermost proxy received the request over https; with `proxies` 0, by the last entry."""
    return _forwarded_entry(headers, "X-Forwarded-Proto", max(proxies, 1)).lower() == "https"


def client_address(headers: Mapping[str, str], peer: str | None, proxies: int) -> str:
    """Return the address our outermost proxy saw; the peer's if no proxy passed one on."""
    return _forwarded_address(headers, proxies) or peer or ""


def client_network(address: str) -> str:
    """Return what limits count as one client: an IPv4 address, or the /64 network of an IPv6 address."""
    parsed = _parse_address(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed.packed, _IPV6_SUBSCRIBER_BITS), strict=False))
    return str(parsed) if parsed is not None else address


def is_plain_text(text: str) -> bool:
    """Return whether a text of a request was UTF-8 and has no NUL, so that every parser and database accepts it."""
    return text.isprintable() or ("\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text))


def _forwarded_address(headers: Mapping[str, str], proxies: int) -> str | None:
    """Return the address that our outermost proxy saw; None without one, "" if it is not an address."""
    entries = _forwarded_entries(headers, "X-Forwarded-For") if proxies else []
    if not 0 < proxies <= len(entries):
        return None
    parsed = _parse_address(entries[-proxies])
    return "" if parsed is None else str(parsed)


def _forwarded_entry(headers: Mapping[str, str], name: str, proxies: int) -> str:
    """Return the entry of our outermost proxy; a proxy that replaces the header leaves fewer entries than proxies."""
    entries = _forwarded_entries(headers, name)
    return entries[-min(proxies, len(entries))] if entries else ""


def _forwarded_entries(headers: Mapping[str, str], name: str) -> list[str]:
    """Return the entries of all lines of a header, in order."""
    getall = getattr(headers, "getall", None)
    lines = getall(name, ()) if getall is not None else [headers[name]] if name in headers else ()
    return [entry.strip() for line in lines for entry in line.split(",")]


def _parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return an address, which some proxies write with a port; None if `text` is not one."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        parsed = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (parsed.ipv4_mapped or parsed) if isinstance(parsed, IPv6Address) else parsed


def _is_in_networks(address: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    parsed = _parse_address(address)
    return parsed is not None and any(parsed.version == network.version and parsed in network for network in networks)
