"""Run the console as a child process on a Unix socket, and proxy requests to it.

The console cannot hold up the web process: its requests do not count as in flight, and when it ends the web process
goes on. Of several web processes one supervises the child; all of them proxy requests.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

import structlog
from aiohttp import (
    ClientConnectionError,
    ClientError,
    ClientPayloadError,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    UnixConnector,
    hdrs,
    web,
)
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler
from multidict import CIMultiDict
from yarl import URL

from ingest.body_reader import BodyReader
from ingest.server.connection_limits import ConnectionLimits
from ingest.server.supervised_child import SupervisedChild
from spokes.core.errors import QueueUnavailable, RejectedRequest
from spokes.core.refusals import Refusal
from spokes.core.request_guard import check_sender, is_https, is_plain_text
from spokes.core.settings import Settings

_MAX_BODY_BYTES: Final = 256 * 1024  # the console's own limit
_CONNECTION_HEADERS: Final = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
    "upgrade", "expect", "content-length", "forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host",
})  # fmt: skip
_EVENT_STREAM: Final = "text/event-stream"
_REFUSAL_SENTENCES: Final = {
    Refusal.NOT_HTTPS: "The console is served over https only.",
    Refusal.ADDRESS_NOT_ALLOWED: "The proxy passed on no address of the sender.",
    Refusal.BODY_TOO_LARGE: "The request is too large.",
    Refusal.BODY_TOO_SLOW: "The body took too long.",
}
log = structlog.get_logger()


def is_console_path(raw_path: str) -> bool:
    """Return whether a request with this path is for the console, which serves installs by OAuth too."""
    return raw_path.startswith(("/console/", "/api/", "/oauth/", "/console?")) or raw_path == "/console"


class ConsoleProxy:
    """Proxies requests to the console, and supervises the console in the one web process that holds the lock."""

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        body_reader: BodyReader,
        connection_limits: ConnectionLimits[RequestHandler],
        *,
        max_requests: int,
    ) -> None:
        """Pass on at most `max_requests` at a time; `folder` is the one of `temporary_child_folder`."""
        self._trusted_proxies = settings.trusted_proxies
        self._body_reader = body_reader
        self._connection_limits = connection_limits
        self._max_requests = max_requests
        self._requests = 0
        self._socket = folder / "socket"
        arguments = ("serve", "--with-parent", "--socket", str(self._socket))
        self._child = SupervisedChild("console", "spokes", arguments, folder)

    async def __aenter__(self) -> Self:
        """Start supervising."""
        self._session = ClientSession(
            connector=UnixConnector(str(self._socket), limit=0),
            timeout=ClientTimeout(total=None, sock_connect=5),
            cookie_jar=DummyCookieJar(),  # another one would send each visitor's cookies with everybody's requests
            auto_decompress=False,
        )
        self._supervisor = asyncio.create_task(self._child.supervise())
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the child, if this process supervises it."""
        self._supervisor.cancel()
        await asyncio.gather(self._supervisor, return_exceptions=True)
        await self.disconnect()

    async def disconnect(self, _: object = None) -> None:
        """Abort the requests being proxied; an event stream would never end by itself."""
        await self._session.close()

    async def forward(self, request: web.BaseRequest) -> web.StreamResponse:
        """Return the console's response, streamed; 503 while too many requests are being passed on."""
        if not all(map(is_plain_text, (request.raw_path, *request.headers.values()))):
            return _text_response(400, "The request holds text that is not UTF-8.")
        if "Expect" in request.headers:
            return _text_response(417, "Send the body without an Expect header.")
        try:
            sender = check_sender(request.headers, request.remote, proxies=self._trusted_proxies, networks=())
            body = await self._body_reader.read(request, _MAX_BODY_BYTES)
        except RejectedRequest as refused:
            return _text_response(refused.status, _REFUSAL_SENTENCES.get(refused.reason, "The request is refused."))
        except QueueUnavailable:
            return _text_response(503, "Too many large requests arrive; try again in a few seconds.")
        except (ClientPayloadError, ConnectionError, HttpProcessingError):
            return _text_response(400, "The request's body is not complete.")
        return await self._pass_on(request, sender, body)

    async def _pass_on(self, request: web.BaseRequest, sender: str, body: bytes) -> web.StreamResponse:
        if self._requests >= self._max_requests:
            return _text_response(503, "The console is busy; try again in a few seconds.")
        self._requests += 1
        try:
            return await self._stream(request, sender, body)
        finally:
            self._requests -= 1

    async def _stream(self, request: web.BaseRequest, sender: str, body: bytes) -> web.StreamResponse:
        headers = _end_to_end_headers(request.headers)
        headers["X-Forwarded-For"] = sender
        headers["X-Forwarded-Proto"] = "https" if is_https(request.headers, self._trusted_proxies) else "http"
        response: web.StreamResponse | None = None
        try:
            async with self._session.request(
                request.method,
                URL(f"http://console{request.raw_path}", encoded=True),
                headers=headers,
                data=body or None,
                allow_redirects=False,
                skip_auto_headers=(hdrs.USER_AGENT, hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE),
            ) as upstream:
                if upstream.content_type == _EVENT_STREAM:  # only for those with an account
                    self._connection_limits.prove(request.protocol)
                response = web.StreamResponse(status=upstream.status, headers=_end_to_end_headers(upstream.headers))
                if hdrs.CONTENT_LENGTH in upstream.headers:
                    response.headers[hdrs.CONTENT_LENGTH] = upstream.headers[hdrs.CONTENT_LENGTH]
                await response.prepare(request)
                async for chunk in upstream.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
        except (ClientError, ConnectionError, RuntimeError) as error:  # RuntimeError: the session is closed at shutdown
            if response is None or not response.prepared:
                if not isinstance(error, ClientConnectionError | ConnectionError):
                    log.warning("console_unreachable", error=type(error).__name__)
                return _text_response(503, "The console is starting; try again in a few seconds.")
            if request.transport is not None:  # the status is sent already, so closing is the only way to report it
                request.transport.close()
        return response


CONSOLE: Final = web.AppKey("console", ConsoleProxy)


def _end_to_end_headers(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """Return the headers to pass on: those that do not concern one connection only."""
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _CONNECTION_HEADERS)


def _text_response(status: int, message: str) -> web.Response:
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    if status == 503:  # noqa: PLR2004 - HTTP's own number
        headers["Retry-After"] = "2"
    return web.Response(status=status, text=f"{message}\n", headers=headers)
