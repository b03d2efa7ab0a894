"""The console behind the web process: one child on a socket of its own, and a way through to it.

Rule: the door owes the console nothing - its requests do not count as in flight, and its end is never the door's. Of
several web processes one is elected by a lock to keep the child; all of them pass requests on.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Self

import structlog
from aiohttp import ClientConnectionError, ClientError, ClientSession, ClientTimeout, UnixConnector, hdrs, web
from multidict import CIMultiDict
from yarl import URL

from spokes.core.errors import RejectedRequest
from spokes.core.request_guard import check_sender
from spokes.core.settings import Settings

_MAX_BODY_BYTES: Final = 256 * 1024  # bytes, as the console itself takes
_MIN_RESTART_DELAY_S, _MAX_RESTART_DELAY_S = 0.5, 30.0  # between two starts of a child that ends
_STABLE_AFTER_S: Final = 60.0  # a child that has lived so long starts again at once
_TERMINATE_TIMEOUT_S: Final = 6.0  # the console gives what it answers five seconds
_CONNECTION_HEADERS: Final = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
    "upgrade", "expect", "content-length", "forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host",
})  # fmt: skip
log = structlog.get_logger()


def is_console_path(raw_path: str) -> bool:
    """Whether a request is for the console."""
    return raw_path.startswith(("/console/", "/api/", "/console?")) or raw_path == "/console"


@contextlib.contextmanager
def temporary_console_folder(settings: Settings) -> Iterator[Path | None]:
    """Make the folder of socket and lock, which is nobody else's, for all web processes; None without a console."""
    if not settings.console_key.get_secret_value():
        yield None
        return
    owner, folder = os.getpid(), Path(tempfile.mkdtemp(prefix="spokes-console-"))
    try:
        yield folder
    finally:
        if os.getpid() == owner:  # a process that was forked meanwhile comes past here too
            shutil.rmtree(folder, ignore_errors=True)


class ConsoleProxy:
    """Passes requests on to the console, and keeps it running if this process is the one to."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        """Use `folder`, see `console_folder`."""
        self._trusted_proxies = settings.trusted_proxies
        self._body_timeout_s = settings.body_timeout_s
        self._socket = folder / "socket"
        self._lock = folder / "lock"

    async def __aenter__(self) -> Self:
        """Begin."""
        self._session = ClientSession(
            connector=UnixConnector(str(self._socket), limit=0),
            timeout=ClientTimeout(total=None, sock_connect=5),
            auto_decompress=False,
        )
        self._supervisor = asyncio.create_task(self._supervise())
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the child, if it is ours."""
        self._supervisor.cancel()
        await asyncio.gather(self._supervisor, return_exceptions=True)
        await self.disconnect()

    async def disconnect(self, _: object = None) -> None:
        """End what is being passed on; a stream of events would never end by itself."""
        await self._session.close()

    async def forward(self, request: web.BaseRequest) -> web.StreamResponse:
        """Return the console's answer, part by part as it comes."""
        try:
            sender = check_sender(request.headers, request.remote, proxies=self._trusted_proxies, networks=())
        except RejectedRequest:
            return _text_response(403, "The console is served over https only.")
        if "Expect" in request.headers:
            return _text_response(417, "Send the body at once.")
        try:
            async with asyncio.timeout(self._body_timeout_s):
                body = await _read_body(request)
        except TimeoutError:
            return _text_response(408, "The body took too long.")
        if body is None:
            return _text_response(413, "The request is too large.")
        headers = _end_to_end_headers(request.headers)
        headers["X-Forwarded-For"] = sender
        response: web.StreamResponse | None = None
        try:
            async with self._session.request(
                request.method,
                URL(f"http://console{request.raw_path}", encoded=True),
                headers=headers,
                data=body or None,
                allow_redirects=False,
                skip_auto_headers=(hdrs.USER_AGENT, hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE),
            ) as answer:
                response = web.StreamResponse(status=answer.status, headers=_end_to_end_headers(answer.headers))
                if hdrs.CONTENT_LENGTH in answer.headers:
                    response.headers[hdrs.CONTENT_LENGTH] = answer.headers[hdrs.CONTENT_LENGTH]
                await response.prepare(request)
                async for part in answer.content.iter_any():
                    await response.write(part)
                await response.write_eof()
        except (ClientError, ConnectionError, RuntimeError) as fault:  # RuntimeError: the session is closed, we end
            if response is None or not response.prepared:
                if not isinstance(fault, ClientConnectionError | ConnectionError):
                    log.warning("console_unreachable", error=type(fault).__name__)
                return _text_response(503, "The console is starting; try again in a few seconds.")
            if request.transport is not None:  # what was begun cannot be answered otherwise any more
                request.transport.close()
        return response

    async def _supervise(self) -> None:
        """Keep the console running once no other web process does, until cancelled."""
        with self._lock.open("w") as lock:
            while not _try_lock(lock.fileno()):  # noqa: ASYNC110 - nobody tells of a lock that is free
                await asyncio.sleep(_MIN_RESTART_DELAY_S)
            wait_s = _MIN_RESTART_DELAY_S
            while True:
                began = time.monotonic()
                code = await self._run_child()
                wait_s = (
                    _MIN_RESTART_DELAY_S
                    if time.monotonic() - began > _STABLE_AFTER_S
                    else min(wait_s * 2, _MAX_RESTART_DELAY_S)
                )
                log.error("console_ended", exit_code=code, again_in_s=wait_s)
                await asyncio.sleep(wait_s)

    async def _run_child(self) -> int:
        """Run the console to its end; it ends with us however we end, because its standard input does."""
        command = (sys.executable, "-m", "spokes", "serve", "--with-parent", "--socket", str(self._socket))
        child = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)
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
    """Return the headers that are for the other end, and not for this connection."""
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _CONNECTION_HEADERS)


async def _read_body(request: web.BaseRequest) -> bytes | None:
    """Read the body whole: the console waits for nobody who sends slowly. None when it is too large."""
    body = bytearray()
    async for part in request.content.iter_any():
        body += part
        if len(body) > _MAX_BODY_BYTES:
            return None
    return bytes(body)


def _text_response(status: int, message: str) -> web.Response:
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    if status == 503:  # noqa: PLR2004 - HTTP's own number
        headers["Retry-After"] = "2"
    return web.Response(status=status, text=f"{message}\n", headers=headers)
