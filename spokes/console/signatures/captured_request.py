"""A captured request, read from a file or from curl-like arguments; its body keeps every byte."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from spokes.core.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class CapturedRequest:
    """A captured request; `url` is the one that HubSpot called, with the public host."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes

    def header(self, name: str) -> str:
        """Return a header's value, empty if the request has no such header."""
        return next((value for key, value in self.headers.items() if key.lower() == name.lower()), "").strip()


def from_arguments(method: str, url: str, headers: Iterable[str], body: str) -> CapturedRequest:
    """Return the request that curl would send with these arguments; a body of `@FILE` is read from the file."""
    content = _read_bytes(body[1:]) if body.startswith("@") else body.encode()
    return CapturedRequest(method, url, _parse_headers(headers), content)


def from_file(file_name: str, *, url: str, public_url: str) -> CapturedRequest:
    """Read raw HTTP, or JSON with method, url, headers and body.

    Args:
        file_name: `-` reads standard input.
        url: the URL that HubSpot called, if known; overrides the file's.
        public_url: PUBLIC_URL, which the receiver puts before the request target; if empty, https and the Host header
            replace it.

    Raises:
        ConfigurationError: the file cannot be read, or has neither form.
    """
    data = _read_bytes(file_name)
    if data.lstrip().startswith(b"{"):
        return _from_json(file_name, data, url)
    head, _, body = data.partition(b"\r\n\r\n" if b"\r\n\r\n" in data else b"\n\n")
    request_line, *header_lines = head.decode(errors="replace").splitlines() or [""]
    parts = request_line.split()
    if len(parts) < 2:  # noqa: PLR2004 - method and target
        raise ConfigurationError(
            [f"{file_name} is not a captured request: its first line must be like POST /x HTTP/1.1."]
        )
    method, target = parts[:2]
    headers = _parse_headers(header_lines)
    host = next((value for key, value in headers.items() if key.lower() == "host"), "")
    base = public_url or f"https://{host}"
    return CapturedRequest(method, url or (target if "://" in target else base + target), headers, body)


def _from_json(file_name: str, data: bytes, url: str) -> CapturedRequest:
    try:
        captured = orjson.loads(data)
        headers = {str(key): _header_text(value) for key, value in captured["headers"].items()}
        body = captured.get("body", "")
        body = body.encode() if isinstance(body, str) else orjson.dumps(body)  # a parsed body has lost its formatting
        return CapturedRequest(str(captured.get("method", "POST")), url or str(captured["url"]), headers, body)
    except (orjson.JSONDecodeError, KeyError, AttributeError):
        raise ConfigurationError(
            [f"{file_name} is JSON, but not an object with method, url, headers and body."]
        ) from None


def _header_text(value: Any) -> str:
    """Return a header's value; some tools write a list, since a header can be repeated."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _parse_headers(lines: Iterable[str]) -> dict[str, str]:
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _read_bytes(file_name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file_name == "-" else Path(file_name).read_bytes()
    except OSError as error:
        raise ConfigurationError([f"{file_name} cannot be read: {error.strerror}."]) from None
