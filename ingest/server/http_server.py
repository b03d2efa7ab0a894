"""One web process: serve until asked to end, then let what is in flight finish. Rule: an accepted request is answered.

aiohttp's own way to stop ignores what still arrives of a body once it has begun to stop, so it begins here only when no
request is left.

Connections from which no request has come yet. Rule: pure; whoever asks closes those that took too long.

aiohttp limits how long a connection may idle, which is minutes, but not how long the head of a request may trickle in:
a stranger who sends a byte a second would hold a socket all that time, thousands of them with little effort.
"""

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final, Generic, TypeVar, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler
from yarl import URL

from ingest.server.console_proxy import CONSOLE, is_console_path
from ingest.server.request_wrapper import RequestWrapper
from ingest.server.views import RECEIVER, REQUEST_WRAPPER, SETTINGS
from spokes.core.settings import RECEIVER_PATH, Settings
from spokes.core.signals import ignore_signals
from spokes.core.telemetry.metrics import REQUESTS

Connection = TypeVar("Connection")


class Newcomers(Generic[Connection]):
    """Tells which connections have been open for too long without a request."""

    def __init__(self, limit_s: float) -> None:
        """Let a connection's first request take `limit_s` seconds to come."""
        self._limit_s = limit_s
        self._heard: set[Connection] = set()
        self._since: dict[Connection, float] = {}

    def heard(self, connection: Connection) -> None:
        """Take note that a request has come from `connection`."""
        self._heard.add(connection)

    def late(self, connections: Collection[Connection], now_s: float) -> list[Connection]:
        """Return those of the open `connections` that took too long; those that are closed are forgotten.

        Args:
            connections: all that are open now.
            now_s: seconds, of any clock that never goes back.
        """
        self._heard.intersection_update(connections)
        self._since = {one: self._since.get(one, now_s) for one in connections if one not in self._heard}
        return [one for one, since in self._since.items() if now_s - since >= self._limit_s]


_KEEP_ALIVE_S: Final = 120.0  # longer than proxies keep theirs; it also ends a connection whose later head never ends
_CHECK_CONNECTIONS_EVERY_S: Final = 1.0
_DRAIN_POLL_S: Final = 0.05
_CLOSE_S: Final = 1.0  # for what did not finish in time


async def serve(app: web.Application, settings: Settings, *, graceful_s: float) -> None:
    """Serve `app` until SIGTERM or SIGINT; what is in flight then may take `graceful_s` seconds."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = app_runner(app, graceful_s=graceful_s)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.port, backlog=1024).start()
        await stop.wait()
    finally:
        await runner.cleanup()
        ignore_signals(asyncio.get_running_loop())


class HttpRunner(web.AppRunner):
    """Runs the application, and surrounds it: deliveries go straight to the receiver, all else through the router.

    aiohttp's way from a connection to a view (router, middlewares, a frame for each) costs as much as admission.
    """

    __slots__ = ("_graceful_s", "_watching")
    _watching: asyncio.Task[None]

    def __init__(self, app: web.Application, *, graceful_s: float, **options: Any) -> None:
        """Run `app`; at the end, what is in flight may take `graceful_s` seconds. `options` are aiohttp's."""
        super().__init__(app, **options)
        self._graceful_s = graceful_s

    async def setup(self) -> None:
        """Make ready to serve."""
        await super().setup()
        app, server = self.app, self.server
        if server is None:
            raise RuntimeError("aiohttp has made no server")
        surroundings, receive, routed = app[REQUEST_WRAPPER], app[RECEIVER].receive, server.request_handler
        newcomers = Newcomers[RequestHandler](app[SETTINGS].body_timeout_s)
        self._watching = asyncio.create_task(_close_slow_connections(newcomers, server))
        heard, console = newcomers.heard, app.get(CONSOLE)

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            heard(request.protocol)
            if (
                request.method == "POST"
                and request.raw_path.partition("?")[0] == RECEIVER_PATH
                and "Expect" not in request.headers
            ):
                return await surroundings.delivery(request, receive)
            if console is not None and is_console_path(request.raw_path):
                return await console.forward(request)
            return await surroundings.view(cast("web.Request", request), routed)

        server.request_handler = handle
        server.request_factory = partial(_make_request, server.request_factory)

    async def cleanup(self) -> None:
        """Stop accepting, let what is in flight finish, stop serving."""
        for site in list(self.sites):
            await site.stop()
        await _wait_until_drained(self.app[REQUEST_WRAPPER], self._graceful_s)
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)
        await super().cleanup()


def _make_request(
    request_factory: Callable[..., web.BaseRequest], message: RawRequestMessage, *args: object
) -> web.BaseRequest:
    """Make a request; one without a target, which only CONNECT may lack, aiohttp would neither answer nor let go of."""
    try:
        return request_factory(message, *args)
    except AttributeError:  # where its URL should be is None
        return request_factory(message._replace(url=URL("/"), should_close=True), *args)


async def _close_slow_connections(slow_connections: Newcomers[RequestHandler], server: web.Server) -> None:
    """Close connections whose first request takes too long to come, until cancelled."""
    while True:
        await asyncio.sleep(_CHECK_CONNECTIONS_EVERY_S)
        for connection in slow_connections.late(server.connections, time.monotonic()):
            REQUESTS.labels("408", "no_request").inc()
            connection.force_close()


def app_runner(app: web.Application, *, graceful_s: float) -> HttpRunner:
    """Return what runs `app` in this process, however many processes there are.

    Bodies are not unpacked: what was signed are the bytes as they came, HubSpot does not pack them, and a few kB of a
    stranger's could become any number of MB before anything of ours is asked.
    """
    server_log = logging.getLogger("aiohttp.server")
    server_log.addFilter(_count_protocol_errors)
    return HttpRunner(
        app,
        access_log=None,
        logger=server_log,
        handle_signals=False,
        keepalive_timeout=_KEEP_ALIVE_S,
        shutdown_timeout=_CLOSE_S,
        graceful_s=graceful_s,
        auto_decompress=False,
    )


def _count_protocol_errors(record: logging.LogRecord) -> bool:
    """Let no line through about bytes that are not HTTP: a stranger must not be able to fill the log; he is counted."""
    fault = record.exc_info[1] if record.exc_info else None
    if isinstance(fault, HttpProcessingError):
        REQUESTS.labels("400", "not_http").inc()
    return not isinstance(fault, HttpProcessingError)


async def _wait_until_drained(wrapper: RequestWrapper, timeout_s: float) -> None:
    """Wait until no request is in flight, but no longer than `seconds`."""
    wrapper.is_draining = True
    try:
        async with asyncio.timeout(timeout_s):
            await asyncio.sleep(_DRAIN_POLL_S)  # so that a request which has come, and was not read yet, counts too
            while wrapper.in_flight:  # noqa: ASYNC110 - every request would have to pay for an event
                await asyncio.sleep(_DRAIN_POLL_S)
    except TimeoutError:
        return
