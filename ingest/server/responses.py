"""The answers of the web process. Rule: an outsider is told a status and the id under which the log tells more."""

import time
from collections.abc import Mapping
from email.utils import formatdate
from typing import Final

import orjson
from aiohttp import HttpVersion11, web

REQUEST_ID: Final = "X-Request-Id"
_ALWAYS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Strict-Transport-Security": "max-age=31536000",
    "Server": "spokes",
}
_JSON: Final = "application/json"
_FIXED: Final = b"HTTP/1.1 202 Accepted\r\n" + b"".join(
    f"{name}: {value}\r\n".encode() for name, value in {**_ALWAYS, "Content-Type": _JSON}.items()
)


class Taken(web.StreamResponse):
    """202 on a connection that stays open, written in one go.

    Making it from a dictionary of headers, as aiohttp does, costs more than verifying a signature. Nothing of what the
    base class keeps is needed, so it is not set up; it is a base for the sake of types.
    """

    _keep_alive = True

    def __init__(self, told: bytes) -> None:
        self._told = told

    async def prepare(self, request: web.BaseRequest) -> None:
        """Take the way to the sender."""
        self._writer = request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Write all of it."""
        await self._writer.write(self._told + data)


def taken(
    request: web.BaseRequest, request_id: str, summary: Mapping[str, object], *, last: bool
) -> web.StreamResponse:
    """Return 202 with what became of the events; `last`: the connection is to end with it."""
    body = orjson.dumps(summary)
    if last or request.version != HttpVersion11 or not request.keep_alive:
        return dressed(web.Response(status=202, body=body, content_type=_JSON), request_id, last=last)
    rest = f"Date: {_date(int(time.time()))}\r\nContent-Length: {len(body)}\r\n{REQUEST_ID}: {request_id}\r\n\r\n"
    return Taken(b"".join((_FIXED, rest.encode(), body)))


def dressed(response: web.StreamResponse, request_id: str, *, last: bool) -> web.StreamResponse:
    """Return `response` with the headers that all answers have."""
    if last:
        response.force_close()
    response.headers.update(_ALWAYS)
    response.headers[REQUEST_ID] = request_id
    return response


_dates: dict[int, str] = {}


def _date(second: int) -> str:
    if second not in _dates:
        _dates.clear()
        _dates[second] = formatdate(second, usegmt=True)
    return _dates[second]
