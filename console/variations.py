"""Which variation of a request would its signature match? Rule: pure; fewest departures from the rules are tried first.

A signature that never matches is what integrators of HubSpot ask about most, and the answer is always one of these.
"""

import base64
import contextlib
import hashlib
import hmac
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import orjson

from ingest.signature import SIGNATURE, SIGNATURE_V3, SIGNATURE_VERSION, TIMESTAMP, decoded

_METHODS: Final = ("POST", "GET", "PUT", "PATCH")
_MOST_DEPARTURES: Final = 4
_VERSIONS: Final = ("v1", "v2", "v3")
_PORTS: Final = ("", ":443", ":80", ":8080", ":3000", ":5000", ":8000")


@dataclass(frozen=True, slots=True)
class Captured:
    """A request as it was captured; `url` as the receiver should have seen it, public host included."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes

    def header(self, name: str) -> str:
        """Return a header's value, empty when there is none."""
        return next((value for key, value in self.headers.items() if key.lower() == name.lower()), "").strip()


@dataclass(frozen=True, slots=True)
class Way:
    """One way to fill one part of the signed text; `departure` says how it differs from the right one, empty if not."""

    value: str | bytes
    departure: str = ""


Parts = dict[str, list[Way]]


def explain(request: Captured, secrets: Sequence[str]) -> tuple[str, list[str]] | None:
    """Return the version that matches, and in what the signed text departs from the rules; None when nothing does."""
    claimed, value = _presented(request)
    if not value:
        return None
    for chosen in _by_departures(_parts(request, secrets)):
        departures = [way.departure for way in chosen.values() if way.departure]
        for version in sorted(_VERSIONS, key=lambda version: version != claimed):
            if hmac.compare_digest(_sign(version, chosen).encode(), value.encode()):
                other = [] if version == claimed else [f"the header of a {claimed} signature holds one of {version}"]
                return version, departures + other
    return None


def _presented(request: Captured) -> tuple[str, str]:
    """The version that the request claims and the value it presents; v3 is what counts where it is there."""
    if value := request.header(SIGNATURE_V3):
        return "v3", value
    version = request.header(SIGNATURE_VERSION)
    return version if version in _VERSIONS else "v1", request.header(SIGNATURE)


def _sign(version: str, chosen: Mapping[str, Way]) -> str:
    text = {name: way.value if isinstance(way.value, bytes) else way.value.encode() for name, way in chosen.items()}
    uri = b"".join(text[name] for name in ("scheme", "host", "port", "path", "query"))
    if version == "v1":
        return hashlib.sha256(text["secret"] + text["body"]).hexdigest()
    if version == "v2":
        return hashlib.sha256(text["secret"] + text["method"] + uri + text["body"]).hexdigest()
    if chosen["decoding"].value == "twelve":
        uri = decoded(uri.decode()).encode()
    elif chosen["decoding"].value == "all":
        uri = unquote(uri.decode()).encode()
    signed = text["method"] + uri + text["body"] + text["timestamp"]
    return base64.b64encode(hmac.digest(text["secret"], signed, "sha256")).decode()


def _by_departures(parts: Parts) -> Iterator[dict[str, Way]]:
    """Every choice of ways with at most a few departures, those with the fewest first."""
    right = {name: ways[0] for name, ways in parts.items()}
    for count in range(_MOST_DEPARTURES + 1):
        for names in itertools.combinations(parts, count):
            for ways in itertools.product(*(parts[name][1:] for name in names)):
                yield {**right, **dict(zip(names, ways, strict=True))}


def _parts(request: Captured, secrets: Sequence[str]) -> Parts:
    url = urlsplit(request.url)
    return {
        "secret": _secrets(secrets),
        "scheme": [
            Way(f"{url.scheme}://"),
            Way("http://" if url.scheme == "https" else "https://", f"the scheme is not {url.scheme}"),
        ],
        "host": _hosts(request, url.hostname or ""),
        "port": _ports(f":{url.port}" if url.port else ""),
        "path": _paths(url.path),
        "query": _queries(url.query, trailing="?" if request.url.endswith("?") else ""),
        "decoding": [
            Way("twelve"),
            Way("none", "the URI was not decoded"),
            Way("all", "the URI was decoded altogether, not only HubSpot's twelve sequences"),
        ],
        "method": [
            Way(request.method),
            *(Way(m, f"the method is {m}") for m in ("POST", "GET") if m != request.method),
        ],
        "timestamp": _timestamps(request.header(TIMESTAMP)),
        "body": _bodies(request.body),
    }


def _secrets(secrets: Sequence[str]) -> list[Way]:
    ways = [Way(secrets[0])]
    ways += [Way(secret, f"secret number {at} was used") for at, secret in enumerate(secrets[1:], start=2)]
    ways += [Way(s.strip(), "the secret has blanks around it") for s in secrets if s != s.strip()]
    return ways


def _hosts(request: Captured, host: str) -> list[Way]:
    others = {request.header(name).partition(":")[0] for name in ("Host", "X-Forwarded-Host", "X-Original-Host")}
    others |= {f"www.{host}", host.removeprefix("www."), host.lower()}
    return [Way(host), *(Way(other, f"the host is {other}") for other in sorted(others - {host, ""}))]


def _ports(port: str) -> list[Way]:
    said = {"": "no port stands in the URI"}
    return [Way(port), *(Way(p, said.get(p, f"port {p[1:]} stands in the URI")) for p in _PORTS if p != port)]


def _paths(path: str) -> list[Way]:
    ways = [Way(path)]
    if path.endswith("/"):
        ways.append(Way(path.rstrip("/"), "the path has no slash at its end"))
    else:
        ways.append(Way(f"{path}/", "the path has a slash at its end"))
    segments = path.strip("/").split("/")
    for at in range(1, len(segments)):
        prefix, rest = "/".join(segments[:at]), "/".join(segments[at:])
        ways += [Way(f"/{rest}", f"the prefix /{prefix} is missing from the path")]
    if "//" in path:
        ways.append(Way(path.replace("//", "/"), "double slashes became one"))
    return ways


def _queries(query: str, *, trailing: str) -> list[Way]:
    if not query:
        return [Way(trailing), Way("" if trailing else "?", "a question mark without a query was dropped or added")]
    pairs = parse_qsl(query, keep_blank_values=True)
    return [
        Way(f"?{query}"),
        Way("", "the query was dropped"),
        Way("?" + "&".join(sorted(query.split("&"))), "the query's parameters were sorted"),
        Way("?" + "&".join(reversed(query.split("&"))), "the query's parameters were turned round"),
        Way("?" + urlencode(pairs), "the query was encoded anew"),
    ]


def _timestamps(text: str) -> list[Way]:
    ways = [Way(text)]
    if text.isdecimal():
        ways.append(Way(str(int(text) * 1000), "the timestamp was taken for seconds"))
        ways.append(Way(str(int(text) // 1000), "the timestamp was turned into seconds"))
        ways.append(Way(f"{text}.0", "the timestamp was turned into a float"))
    ways.append(Way("", "the timestamp was left out"))
    return ways


def _bodies(body: bytes) -> list[Way]:
    ways = [Way(body)]
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    if value is not None:
        import json  # noqa: PLC0415 - its spacing is what other programs write

        ways += [
            Way(orjson.dumps(value), "the body was parsed and written again, compactly"),
            Way(json.dumps(value).encode(), "the body was parsed and written again by Python's json"),
            Way(json.dumps(value, separators=(",", ":")).encode(), "the body was parsed and written again, in ASCII"),
        ]
    ways += [
        Way(body.strip(), "blanks around the body were dropped"),
        Way(body.replace(b"\r\n", b"\n"), "the body's line ends were changed"),
        Way(b"", "the body was left out"),
        Way(str(body).encode(), "the body was formatted as Python bytes"),
    ]
    with contextlib.suppress(UnicodeError):
        ways.append(Way(body.decode().encode("latin-1"), "the body was encoded as Latin-1"))
    kept = [ways[0]]
    return kept + [way for way in ways[1:] if way.value != body]
