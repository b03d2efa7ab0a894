"""A captured request, and how it is read from a file or from curl-like arguments. Rule: its body stays as it is."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from spokes.core.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class CapturedRequest:
    """A request as it was captured; `url` as the receiver should have seen it, public host included."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes

    def header(self, name: str) -> str:
        """Return a header's value, empty when there is none."""
        return next((value for key, value in self.headers.items() if key.lower() == name.lower()), "").strip()


def from_arguments(method: str, url: str, headers: Iterable[str], body: str) -> CapturedRequest:
    """Return the request that curl would send with such arguments; a body of `@FILE` is read as it is."""
    return CapturedRequest(
        method, url, _parse_headers(headers), _read_bytes(body[1:]) if body.startswith("@") else body.encode()
    )


def from_file(file_name: str, *, url: str, public_url: str) -> CapturedRequest:
    """Read raw HTTP, or JSON with method, url, headers and body; `-` is the standard input.

    Args:
        name: of the file.
        url: that HubSpot called, if it was given; it counts more than what the file says.
        public_url: PUBLIC_URL, which the receiver puts before the target; without it, https and the Host header are.

    Raises:
        ConfigurationError: it cannot be read, or is neither.
    """
    data = _read_bytes(file_name)
    if data.lstrip().startswith(b"{"):
        return _from_json(file_name, data, url)
    head, _, body = data.partition(b"\r\n\r\n" if b"\r\n\r\n" in data else b"\n\n")
    request_line, *lines = head.decode(errors="replace").splitlines() or [""]
    words = request_line.split()
    if len(words) < 2:  # noqa: PLR2004 - method and target
        raise ConfigurationError([f"{file_name} does not begin with a request line such as POST /x HTTP/1.1."])
    headers = _parse_headers(lines)
    host = next((value for key, value in headers.items() if key.lower() == "host"), "")
    base = public_url or f"https://{host}"
    return CapturedRequest(words[0], url or (words[1] if "://" in words[1] else base + words[1]), headers, body)


def _from_json(name: str, data: bytes, url: str) -> CapturedRequest:
    try:
        captured = orjson.loads(data)
        headers = {str(key): _header_text(value) for key, value in captured["headers"].items()}
        body = captured.get("body", "")
        body = body.encode() if isinstance(body, str) else orjson.dumps(body)  # parsed, so how it was written is lost
        return CapturedRequest(str(captured.get("method", "POST")), url or str(captured["url"]), headers, body)
    except (orjson.JSONDecodeError, KeyError, AttributeError):
        raise ConfigurationError([f"{name} is JSON, but not with method, url, headers and body."]) from None


def _header_text(value: Any) -> str:
    """A header's value; some tools write a list, since a header may be repeated."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _parse_headers(lines: Iterable[str]) -> dict[str, str]:
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _read_bytes(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise ConfigurationError([f"{name} cannot be read: {error.strerror}."]) from None
