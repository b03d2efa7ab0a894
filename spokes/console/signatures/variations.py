"""The ways in which each part of a signed text may depart from the rules. Rule: pure; the right way stands first.

A signature that never matches is what integrators of HubSpot ask about most, and the answer is always one of these.
"""

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

import orjson

from spokes.console.signatures.captured_request import CapturedRequest
from spokes.core.signature import TIMESTAMP_HEADER

_METHODS: Final = ("POST", "GET", "PUT", "PATCH", "DELETE")
_PORTS: Final = ("443", "80", "8080", "8443", "3000", "5000", "8000", "9000")
_PREFIXES: Final = ("/api", "/app", "/hubspot", "/v1")
_MAX_PERMUTED: Final = 4  # parameters of a query that are tried in every order
# Where proxies write down what they changed.
_HOST_HEADERS: Final = ("Host", "X-Forwarded-Host", "X-Original-Host")
_TARGET_HEADERS: Final = ("X-Original-URI", "X-Original-URL", "X-Forwarded-Uri", "X-Rewrite-URL")
_JSON_WRITERS: Final[dict[str, Callable[[Any], str]]] = {
    "compactly": lambda value: orjson.dumps(value).decode(),
    "by Python's json": json.dumps,
    "in ASCII": lambda value: json.dumps(value, separators=(",", ":")),
    "with blanks": lambda value: json.dumps(value, ensure_ascii=False),
    "in lines indented by 2": lambda value: json.dumps(value, indent=2, ensure_ascii=False),
    "in lines indented by 4": lambda value: json.dumps(value, indent=4, ensure_ascii=False),
}


class Variation(NamedTuple):
    """One way to fill one part of the signed text; `departure` says how it differs from the right one, empty if not."""

    value: str | bytes
    difference: str = ""


VariationsByPart = dict[str, list[Variation]]


def variations(request: CapturedRequest, secrets: Sequence[str]) -> VariationsByPart:
    """Return every part of the signed text with the ways to fill it."""
    url = urlsplit(request.url)
    ways = {
        "secret": _secrets(secrets),
        "scheme": _schemes(url.scheme),
        "host": _hosts(request, url.hostname or ""),
        "port": _ports(request, str(url.port or "")),
        "path": _paths(request, url.path),
        "query": _queries(request, url.query, trailing="?" if request.url.endswith("?") else ""),
        "decoding": [
            Variation("twelve"),
            Variation("none", "the URI was not decoded"),
            Variation("all", "the URI was decoded altogether, not only HubSpot's twelve sequences"),
        ],
        "method": [Variation(request.method), *(Variation(name, f"the method is {name}") for name in _METHODS)],
        "timestamp": _timestamps(request.header(TIMESTAMP_HEADER)),
        "body": _bodies(request.body),
    }
    return {name: list(_distinct(found)) for name, found in ways.items()}


def _distinct(ways: list[Variation]) -> Iterator[Variation]:
    """The first of those that come to the same."""
    seen = set()
    for way in ways:
        if way.value not in seen:
            seen.add(way.value)
            yield way


def _secrets(secrets: Sequence[str]) -> list[Variation]:
    ways = [Variation(secrets[0])]
    ways += [Variation(secret, f"secret number {at} was used") for at, secret in enumerate(secrets[1:], start=2)]
    return ways + [Variation(one.strip().strip("\"'"), "the secret has blanks or quotes around it") for one in secrets]


def _schemes(scheme: str) -> list[Variation]:
    other = "http" if scheme == "https" else "https"
    return [Variation(f"{scheme}://"), Variation(f"{other}://", f"the scheme is not {scheme}")]


def _forwarded_parameter(request: CapturedRequest, name: str) -> str:
    """A parameter of the Forwarded header's first hop, RFC 7239."""
    pairs = (pair.partition("=") for pair in request.header("Forwarded").partition(",")[0].split(";"))
    return next((value.strip().strip('"') for key, _, value in pairs if key.strip().lower() == name), "")


def _header_authorities(request: CapturedRequest) -> list[tuple[str, str]]:
    """Hosts, each with its port, that headers name."""
    named = [*(request.header(name).partition(",")[0] for name in _HOST_HEADERS), _forwarded_parameter(request, "host")]
    return [(host, port) for host, _, port in (one.strip().partition(":") for one in named)]


def _hosts(request: CapturedRequest, host: str) -> list[Variation]:
    written = request.url.partition("://")[2].partition("/")[0].rpartition("@")[2].partition(":")[0]
    others = [
        *(named for named, _ in _header_authorities(request) if named),
        written,
        f"www.{host}",
        host.removeprefix("www."),
    ]
    return [Variation(host), *(Variation(other, f"the host is {other}") for other in others)]


def _ports(request: CapturedRequest, port: str) -> list[Variation]:
    named = [*(port for _, port in _header_authorities(request)), request.header("X-Forwarded-Port"), *_PORTS]
    ways = [Variation(f":{port}" if port else ""), Variation("", "no port stands in the URI")]
    return ways + [Variation(f":{other}", f"port {other} stands in the URI") for other in named if other]


def _paths(request: CapturedRequest, path: str) -> list[Variation]:
    ways = [Variation(path)]
    if path.endswith("/"):
        ways.append(Variation(path.rstrip("/"), "the path has no slash at its end"))
    else:
        ways.append(Variation(f"{path}/", "the path has a slash at its end"))
    segments = path.strip("/").split("/")
    for at in range(1, len(segments)):
        prefix, rest = "/".join(segments[:at]), "/".join(segments[at:])
        ways.append(Variation(f"/{rest}", f"the prefix /{prefix} is missing from the path"))
    ways += [
        Variation(urlsplit(target).path, f"the path is the one in {name}")
        for name in _TARGET_HEADERS
        if (target := request.header(name))
    ]
    for prefix in filter(None, (request.header("X-Forwarded-Prefix").rstrip("/"), *_PREFIXES)):
        ways.append(Variation(prefix + path, f"the prefix {prefix} stands before the path"))
    if "//" in path:
        ways.append(Variation(path.replace("//", "/"), "double slashes became one"))
    return [*ways, Variation(f"/{path}", "two slashes stand before the path")]


def _queries(request: CapturedRequest, query: str, *, trailing: str) -> list[Variation]:
    ways = [Variation(f"?{query}" if query else trailing)]
    ways += [
        Variation(f"?{original}", f"the query is the one in {name}")
        for name in _TARGET_HEADERS
        if (original := urlsplit(request.header(name)).query)
    ]
    if not query:
        return [*ways, Variation("" if trailing else "?", "a question mark without a query was dropped or added")]
    given = query.split("&")
    ways += [
        Variation("", "the query was dropped"),
        Variation("?" + "&".join(sorted(given)), "the query's parameters were sorted"),
        Variation("?" + "&".join(reversed(given)), "the query's parameters were turned round"),
        Variation("?" + urlencode(parse_qsl(query, keep_blank_values=True)), "the query was encoded anew"),
        Variation("?" + query.replace("+", "%20"), "blanks in the query were written anew"),
    ]
    ways += [
        Variation("?" + "&".join(given[:at] + given[at + 1 :]), f"parameter {at + 1} of the query was added")
        for at in range(len(given) if len(given) > 1 else 0)
    ]
    if len(given) <= _MAX_PERMUTED:
        orders = itertools.permutations(given)
        ways += [
            Variation("?" + "&".join(order), "the query's parameters were put in another order") for order in orders
        ]
    return ways


def _timestamps(text: str) -> list[Variation]:
    ways = [Variation(text)]
    if text.isascii() and text.isdecimal():
        ways.append(Variation(str(int(text) * 1000), "the timestamp was taken for seconds"))
        ways.append(Variation(str(int(text) // 1000), "the timestamp was turned into seconds"))
        ways.append(Variation(f"{text}.0", "the timestamp was turned into a float"))
    return [*ways, Variation("", "the timestamp was left out")]


def _bodies(body: bytes) -> list[Variation]:
    ways = [Variation(body), Variation(body.strip(), "blanks around the body were dropped")]
    ways += [Variation(body + end, "the line end after the body was dropped") for end in (b"\n", b"\r\n")]
    with contextlib.suppress(orjson.JSONDecodeError):
        value = orjson.loads(body)
        ways += [
            Variation(write(value).encode(), f"the body was parsed and written again, {how}")
            for how, write in _JSON_WRITERS.items()
        ]
    ways += [
        Variation(body.replace(b"\r\n", b"\n"), "the body's line ends were changed"),
        Variation(b"", "the body was left out"),
        Variation(str(body).encode(), "the body was formatted as Python bytes"),
    ]
    with contextlib.suppress(UnicodeError):
        ways.append(Variation(body.decode().encode("latin-1"), "the body was encoded as Latin-1"))
    return ways
