"""The possible variations of each signed part of a request, the expected one first.

They are the usual reasons why integrators find that a HubSpot signature never matches. Pure: no I/O, no clock.
"""

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

import orjson

from spokes.console.signatures.captured_request import CapturedRequest
from spokes.core.signature import TIMESTAMP_HEADER, parse_timestamp

_METHODS: Final = ("POST", "GET", "PUT", "PATCH", "DELETE")
_PORTS: Final = ("443", "80", "8080", "8443", "3000", "5000", "8000", "9000")
_PREFIXES: Final = ("/api", "/app", "/hubspot", "/v1")
_MAX_PERMUTED: Final = 4  # query parameters that are tried in every order
# Headers in which proxies record what they changed.
_HOST_HEADERS: Final = ("Host", "X-Forwarded-Host", "X-Original-Host")
_TARGET_HEADERS: Final = ("X-Original-URI", "X-Original-URL", "X-Forwarded-Uri", "X-Rewrite-URL")
_JSON_WRITERS: Final[dict[str, Callable[[Any], str]]] = {
    "compactly": lambda value: orjson.dumps(value).decode(),
    "by Python's json": json.dumps,
    "in ASCII": lambda value: json.dumps(value, separators=(",", ":")),
    "with spaces": lambda value: json.dumps(value, ensure_ascii=False),
    "in lines indented by 2": lambda value: json.dumps(value, indent=2, ensure_ascii=False),
    "in lines indented by 4": lambda value: json.dumps(value, indent=4, ensure_ascii=False),
}


class Variation(NamedTuple):
    """A possible value of a signed part; `difference` describes how it differs from the expected value, else empty."""

    value: str | bytes
    difference: str = ""


VariationsByPart = dict[str, list[Variation]]


def variations(request: CapturedRequest, secrets: Sequence[str]) -> VariationsByPart:
    """Return the variations of every signed part, without repeated values."""
    url = urlsplit(request.url)
    by_part = {
        "secret": _secrets(secrets),
        "scheme": _schemes(url.scheme),
        "host": _hosts(request, url.hostname or ""),
        "port": _ports(request, str(url.port or "")),
        "path": _paths(request, url.path),
        "query": _queries(request, url.query, trailing="?" if request.url.endswith("?") else ""),
        "decoding": [
            Variation("twelve"),
            Variation("none", "the URI was not decoded"),
            Variation("all", "the URI was decoded completely, not only HubSpot's twelve sequences"),
        ],
        "method": [Variation(request.method), *(Variation(name, f"the method is {name}") for name in _METHODS)],
        "timestamp": _timestamps(request.header(TIMESTAMP_HEADER)),
        "body": _bodies(request.body),
    }
    return {name: list(_distinct(candidates)) for name, candidates in by_part.items()}


def _distinct(candidates: list[Variation]) -> Iterator[Variation]:
    """Yield the first variation of each value."""
    seen = set()
    for variation in candidates:
        if variation.value not in seen:
            seen.add(variation.value)
            yield variation


def _secrets(secrets: Sequence[str]) -> list[Variation]:
    candidates = [Variation(secrets[0])]
    candidates += [Variation(secret, f"secret number {at} was used") for at, secret in enumerate(secrets[1:], start=2)]
    stripped = "the secret has spaces or quotes around it"
    return candidates + [Variation(secret.strip().strip("\"'"), stripped) for secret in secrets]


def _schemes(scheme: str) -> list[Variation]:
    other = "http" if scheme == "https" else "https"
    return [Variation(f"{scheme}://"), Variation(f"{other}://", f"the scheme is {other}")]


def _forwarded_parameter(request: CapturedRequest, name: str) -> str:
    """Return a parameter of the Forwarded header's first hop (RFC 7239)."""
    pairs = (pair.partition("=") for pair in request.header("Forwarded").partition(",")[0].split(";"))
    return next((value.strip().strip('"') for key, _, value in pairs if key.strip().lower() == name), "")


def _header_authorities(request: CapturedRequest) -> list[tuple[str, str]]:
    """Return host and port of each authority that a header names."""
    authorities = [
        *(request.header(name).partition(",")[0] for name in _HOST_HEADERS), _forwarded_parameter(request, "host")
    ]  # fmt: skip
    return [(host, port) for host, _, port in (authority.strip().partition(":") for authority in authorities)]


def _hosts(request: CapturedRequest, host: str) -> list[Variation]:
    literal = request.url.partition("://")[2].partition("/")[0].rpartition("@")[2].partition(":")[0]
    others = [
        *(header_host for header_host, _ in _header_authorities(request) if header_host),
        literal,
        f"www.{host}",
        host.removeprefix("www."),
    ]
    return [Variation(host), *(Variation(other, f"the host is {other}") for other in others)]


def _ports(request: CapturedRequest, port: str) -> list[Variation]:
    others = [*(port for _, port in _header_authorities(request)), request.header("X-Forwarded-Port"), *_PORTS]
    candidates = [Variation(f":{port}" if port else ""), Variation("", "the URI has no port")]
    return candidates + [Variation(f":{other}", f"the URI has port {other}") for other in others if other]


def _paths(request: CapturedRequest, path: str) -> list[Variation]:
    candidates = [Variation(path)]
    if path.endswith("/"):
        candidates.append(Variation(path.rstrip("/"), "the path has no slash at its end"))
    else:
        candidates.append(Variation(f"{path}/", "the path has a slash at its end"))
    segments = path.strip("/").split("/")
    for at in range(1, len(segments)):
        prefix, rest = "/".join(segments[:at]), "/".join(segments[at:])
        candidates.append(Variation(f"/{rest}", f"the prefix /{prefix} is missing from the path"))
    candidates += [
        Variation(urlsplit(target).path, f"the path is the one in {name}")
        for name in _TARGET_HEADERS
        if (target := request.header(name))
    ]
    for prefix in filter(None, (request.header("X-Forwarded-Prefix").rstrip("/"), *_PREFIXES)):
        candidates.append(Variation(prefix + path, f"the path begins with the prefix {prefix}"))
    if "//" in path:
        candidates.append(Variation(path.replace("//", "/"), "double slashes became one"))
    return [*candidates, Variation(f"/{path}", "the path begins with two slashes")]


def _queries(request: CapturedRequest, query: str, *, trailing: str) -> list[Variation]:
    candidates = [Variation(f"?{query}" if query else trailing)]
    candidates += [
        Variation(f"?{original}", f"the query is the one in {name}")
        for name in _TARGET_HEADERS
        if (original := urlsplit(request.header(name)).query)
    ]
    if not query:
        other = "" if trailing else "?"
        return [*candidates, Variation(other, "a question mark without a query was dropped or added")]
    parameters = query.split("&")
    candidates += [
        Variation("", "the query was dropped"),
        Variation("?" + "&".join(sorted(parameters)), "the query's parameters were sorted"),
        Variation("?" + "&".join(reversed(parameters)), "the query's parameters were reversed"),
        Variation("?" + urlencode(parse_qsl(query, keep_blank_values=True)), "the query was encoded again"),
        Variation("?" + query.replace("+", "%20"), "spaces in the query were written as %20"),
    ]
    candidates += [
        Variation("?" + "&".join(parameters[:at] + parameters[at + 1 :]), f"parameter {at + 1} of the query was added")
        for at in range(len(parameters) if len(parameters) > 1 else 0)
    ]
    if len(parameters) <= _MAX_PERMUTED:
        candidates += [
            Variation("?" + "&".join(order), "the query's parameters were put in another order")
            for order in itertools.permutations(parameters)
        ]
    return candidates


def _timestamps(text: str) -> list[Variation]:
    candidates = [Variation(text)]
    if (number := parse_timestamp(text)) is not None:
        candidates.append(Variation(str(number * 1000), "the timestamp was read as seconds"))
        candidates.append(Variation(str(number // 1000), "the timestamp was converted to seconds"))
        candidates.append(Variation(f"{text}.0", "the timestamp was converted to a float"))
    return [*candidates, Variation("", "the timestamp was left out")]


def _bodies(body: bytes) -> list[Variation]:
    candidates = [Variation(body), Variation(body.strip(), "white space around the body was dropped")]
    candidates += [Variation(body + end, "the line end after the body was dropped") for end in (b"\n", b"\r\n")]
    with contextlib.suppress(orjson.JSONDecodeError):
        value = orjson.loads(body)
        candidates += [
            Variation(write(value).encode(), f"the body was parsed and serialised again, {how}")
            for how, write in _JSON_WRITERS.items()
        ]
    candidates += [
        Variation(body.replace(b"\r\n", b"\n"), "the body's line ends were changed"),
        Variation(b"", "the body was left out"),
        Variation(str(body).encode(), "the body was formatted as Python bytes"),
    ]
    with contextlib.suppress(UnicodeError):
        candidates.append(Variation(body.decode().encode("latin-1"), "the body was encoded as Latin-1"))
    return candidates
