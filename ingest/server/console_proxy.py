"""Run the console as a child process on a Unix socket, and proxy requests to it.

The console cannot hold up the web process: its requests do not count as in flight, and when it ends the web process
goes on. Of several web processes one holds a file lock and supervises the child; all of them proxy requests.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Self

import structlog
from aiohttp import (
    ClientConnectionError,
    ClientError,
    ClientPayloadError,
    ClientSession,
    ClientTimeout,
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
from spokes.core.errors import QueueUnavailable, RejectedRequest
from spokes.core.process.child_command import module_command, module_environment
from spokes.core.refusals import Refusal
from spokes.core.request_guard import check_sender, is_https, is_plain_text
from spokes.core.settings import Settings

_MAX_BODY_BYTES: Final = 256 * 1024  # the console's own limit
_MIN_RESTART_DELAY_S, _MAX_RESTART_DELAY_S = 0.5, 30.0
_STABLE_AFTER_S: Final = 60.0  # a child that ran longer is restarted after the minimum delay
_TERMINATE_TIMEOUT_S: Final = 6.0  # the console gives its own requests in flight five seconds
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


@contextlib.contextmanager
def temporary_console_folder(settings: Settings) -> Iterator[Path | None]:
    """Make the private folder of socket and lock, shared by all web processes; yield None if there is no console."""
    if not settings.console_key.get_secret_value():
        yield None
        return
    owner, folder = os.getpid(), Path(tempfile.mkdtemp(prefix="spokes-console-"))
    try:
        yield folder
    finally:
        if os.getpid() == owner:  # forked web processes leave this block too
            shutil.rmtree(folder, ignore_errors=True)


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
        """Pass on at most `max_requests` at a time; `folder` is the one of `temporary_console_folder`."""
        self._trusted_proxies = settings.trusted_proxies
        self._body_reader = body_reader
        self._connection_limits = connection_limits
        self._max_requests = max_requests
        self._requests = 0
        self._socket = folder / "socket"
        self._lock = folder / "lock"

    async def __aenter__(self) -> Self:
        """Start supervising."""
        self._session = ClientSession(
            connector=UnixConnector(str(self._socket), limit=0),
            timeout=ClientTimeout(total=None, sock_connect=5),
            auto_decompress=False,
        )
        self._supervisor = asyncio.create_task(self._supervise())
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

    async def _supervise(self) -> None:
        """Keep the console running once this process gets the lock, until cancelled."""
        with self._lock.open("w") as lock:
            while not _try_lock(lock.fileno()):  # noqa: ASYNC110 - a released file lock notifies nobody
                await asyncio.sleep(_MIN_RESTART_DELAY_S)
            delay_s = _MIN_RESTART_DELAY_S
            while True:
                started = time.monotonic()
                code = await self._run_child()
                was_stable = time.monotonic() - started > _STABLE_AFTER_S
                delay_s = _MIN_RESTART_DELAY_S if was_stable else min(delay_s * 2, _MAX_RESTART_DELAY_S)
                log.error("console_ended", exit_code=code, again_in_s=delay_s)
                await asyncio.sleep(delay_s)

    async def _run_child(self) -> int:
        """Run the console until it ends. When this process ends, the child's standard input closes, and it ends too."""
        command = module_command("spokes", "serve", "--with-parent", "--socket", str(self._socket))
        child = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, env=module_environment(os.environ)
        )
        try:
            return await child.wait()
        finally:
            if child.returncode is None:
                child.terminate()
                try:
                    await asyncio.wait_for(child.wait(), _TERMINATE_TIMEOUT_S)
                except TimeoutError:
                    child.kill()
                    await child.wait()


CONSOLE: Final = web.AppKey("console", ConsoleProxy)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _end_to_end_headers(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """Return the headers to pass on: those that do not concern one connection only."""
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _CONNECTION_HEADERS)


def _text_response(status: int, message: str) -> web.Response:
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    if status == 503:  # noqa: PLR2004 - HTTP's own number
        headers["Retry-After"] = "2"
    return web.Response(status=status, text=f"{message}\n", headers=headers)
