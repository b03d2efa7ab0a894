"""The web process' responses. To an outsider they reveal only a status and the request id, which is also in the log."""

import time
from collections.abc import Mapping
from email.utils import formatdate
from typing import Final

import orjson
from aiohttp import HttpVersion11, web

REQUEST_ID_HEADER: Final = "X-Request-Id"
_STANDARD_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Strict-Transport-Security": "max-age=31536000",
    "Server": "spokes",
}
_JSON: Final = "application/json"
_ACCEPTED_HEAD: Final = b"HTTP/1.1 202 Accepted\r\n" + b"".join(
    f"{name}: {value}\r\n".encode() for name, value in {**_STANDARD_HEADERS, "Content-Type": _JSON}.items()
)


class AcceptedResponse(web.StreamResponse):
    """202 on a connection that stays open, written at once.

    Building it from a dictionary of headers, as aiohttp does, costs more than verifying a signature. It uses none of
    the base class' state, so `__init__` does not set that up; the base class is there for its type only.
    """

    _keep_alive = True

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def prepare(self, request: web.BaseRequest) -> None:
        """Bind to the request's connection."""
        self._writer = request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Write head and body."""
        await self._writer.write(self._content + data)


def accepted(
    request: web.BaseRequest, request_id: str, summary: Mapping[str, object], *, close_connection: bool
) -> web.StreamResponse:
    """Return 202 with `summary` as its body."""
    if close_connection or request.version != HttpVersion11 or not request.keep_alive:
        response = web.Response(status=202, body=orjson.dumps(summary), content_type=_JSON)
        return with_standard_headers(response, request_id, close_connection=close_connection)
    return AcceptedResponse(accepted_content(request_id, summary))


def accepted_content(request_id: str, summary: Mapping[str, object], *, close_connection: bool = False) -> bytes:
    """Return the bytes of a 202 for HTTP/1.1, with `summary` as its body."""
    body = orjson.dumps(summary)
    connection = "Connection: close\r\n" if close_connection else ""
    variable_head = (
        f"Date: {_http_date(int(time.time()))}\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"{connection}{REQUEST_ID_HEADER}: {request_id}\r\n\r\n"
    )
    return b"".join((_ACCEPTED_HEAD, variable_head.encode(), body))


def with_standard_headers(
    response: web.StreamResponse, request_id: str, *, close_connection: bool
) -> web.StreamResponse:
    """Return `response` with the headers of every response added."""
    if close_connection:
        response.force_close()
    response.headers.update(_STANDARD_HEADERS)
    response.headers[REQUEST_ID_HEADER] = request_id
    return response


_date_cache: dict[int, str] = {}  # the current second only


def _http_date(second: int) -> str:
    if second not in _date_cache:
        _date_cache.clear()
        _date_cache[second] = formatdate(second, usegmt=True)
    return _date_cache[second]
