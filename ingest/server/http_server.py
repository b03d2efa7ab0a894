"""Serve HTTP in one web process: dispatch requests, close slow connections, drain requests in flight at shutdown.

Every accepted request is answered. aiohttp's own shutdown ignores what still arrives of a request body, so it begins
here only when no request is in flight.
"""

import asyncio
import signal
from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler
from yarl import URL

from ingest.server.connection_limits import ConnectionLimits
from ingest.server.console_proxy import CONSOLE, is_console_path
from ingest.server.delivery_connection import DeliveryConnection, DeliveryServer, DirectDeliveries
from ingest.server.request_wrapper import RequestWrapper
from ingest.server.responses import AcceptedResponse
from ingest.server.slow_connections import SlowConnections, close_slow_connections
from ingest.server.views import CONNECTION_LIMITS, RECEIVER, REQUEST_WRAPPER, SETTINGS
from spokes.core.process.signals import ignore_signals
from spokes.core.settings import RECEIVER_PATH, Settings
from spokes.core.telemetry.metrics import REQUESTS
from spokes.core.telemetry.protocol_errors import server_logger

_KEEP_ALIVE_S: Final = 120.0  # longer than proxies' own; also closes a connection whose next request head never ends
_DRAIN_POLL_S: Final = 0.05
_LINGER_S: Final = 1.0  # how long a connection stays open after a response to a request that has not arrived completely
_DROPPED_BYTES: Final = 1024 * 1024  # what is left of a smaller body is read, so that the connection can be used again
_CLOSE_S: Final = 1.0  # for requests that did not finish within `graceful_s`


async def serve(app: web.Application, settings: Settings, *, graceful_s: float) -> None:
    """Serve `app` until SIGTERM or SIGINT; requests in flight then have `graceful_s` seconds to finish."""
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


def app_runner(app: web.Application, *, graceful_s: float) -> "HttpRunner":
    """Return the runner of `app` for this process, whether it is the only web process or one of several.

    Bodies are not decompressed. HubSpot signs the bytes as sent, and does not compress; and a few compressed kB of a
    stranger's could become any number of MB before the first check of ours.
    """
    return HttpRunner(
        app,
        access_log=None,
        logger=server_logger(REQUESTS.labels("400", "not_http").inc),
        handle_signals=False,
        keepalive_timeout=_KEEP_ALIVE_S,
        shutdown_timeout=_CLOSE_S,
        graceful_s=graceful_s,
        auto_decompress=False,
        lingering_time=_LINGER_S,
    )


class HttpRunner(web.AppRunner):
    """Runs the application; passes deliveries straight to the receiver, and everything else through aiohttp's router.

    aiohttp's path from a connection to a view (router, middlewares, a frame for each) costs as much as admission.
    """

    __slots__ = ("_closing_slow_connections", "_graceful_s")
    _closing_slow_connections: asyncio.Task[None]

    def __init__(self, app: web.Application, *, graceful_s: float, **options: Any) -> None:
        """Run `app`; at shutdown, requests in flight have `graceful_s` seconds to finish. `options` are aiohttp's."""
        super().__init__(app, **options)
        self._graceful_s = graceful_s

    async def setup(self) -> None:
        """Prepare to serve."""
        await super().setup()
        app, server = self.app, self.server
        if server is None:
            raise RuntimeError("aiohttp has made no server")
        wrapper, receiver, router_handler = app[REQUEST_WRAPPER], app[RECEIVER], server.request_handler
        slow_connections = SlowConnections[RequestHandler](app[SETTINGS].body_timeout_s)
        self._closing_slow_connections = asyncio.create_task(close_slow_connections(slow_connections, server))
        saw_request, console, limits = slow_connections.saw_request, app.get(CONSOLE), app[CONNECTION_LIMITS]
        busy, proven = limits.busy, limits.proven

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            connection = cast("DeliveryConnection", request.protocol)
            saw_request(connection)
            busy.add(connection)
            unfinished, connection.unfinished = connection.unfinished, None
            try:
                if unfinished is not None:
                    response = await wrapper.delivery(request, *unfinished)
                elif (
                    request.method == "POST"
                    and request.raw_path.partition("?")[0] == RECEIVER_PATH
                    and "Expect" not in request.headers
                ):
                    begun = wrapper.begin()
                    response = await wrapper.delivery(request, begun, partial(receiver.receive, request, begun.id))
                elif console is not None and is_console_path(request.raw_path):
                    response = await console.forward(request)
                else:
                    response = await wrapper.view(cast("web.Request", request), router_handler)
                if connection not in proven and isinstance(response, AcceptedResponse):
                    limits.prove(connection)
                if not request.content.is_eof() and _stop_reading(request):
                    response.force_close()
                return response
            finally:
                busy.discard(connection)

        server.request_handler = handle
        server.__class__ = DeliveryServer  # aiohttp offers no other place to choose the class of its connections
        cast("DeliveryServer", server).direct = DirectDeliveries(receiver, wrapper, limits, slow_connections)
        _limit_connections(server, limits)
        server.request_factory = partial(_make_request, server.request_factory)

    async def cleanup(self) -> None:
        """Stop accepting connections, wait for requests in flight, stop serving."""
        for site in list(self.sites):
            await site.stop()
        await _wait_until_drained(self.app[REQUEST_WRAPPER], self._graceful_s)
        self._closing_slow_connections.cancel()
        await asyncio.gather(self._closing_slow_connections, return_exceptions=True)
        await super().cleanup()


def _limit_connections(server: web.Server, limits: ConnectionLimits[RequestHandler]) -> None:
    """Have `server` record each connection in `limits`, and close the one that `limits` names."""
    opened, lost = server.connection_made, server.connection_lost

    def on_open(connection: RequestHandler, transport: asyncio.Transport) -> None:
        opened(connection, transport)
        peer = transport.get_extra_info("peername")
        surplus = limits.open(connection, str(peer[0]) if isinstance(peer, tuple) else "")
        if surplus is not None:
            surplus.force_close()

    def on_close(connection: RequestHandler, error: BaseException | None = None) -> None:
        limits.close(connection)
        lost(connection, error)

    server.connection_made = on_open  # type: ignore[assignment]  # aiohttp offers no other place to see connections
    server.connection_lost = on_close  # type: ignore[assignment]  # as above


def _stop_reading(request: web.BaseRequest) -> bool:
    """Leave the rest of a large refused body unread: reading it costs far more than refusing it. Return whether it is.

    aiohttp would read and drop it for `_LINGER_S`. The sender has that time to read the response.
    """
    transport, length = request.transport, request.content_length
    if transport is None or transport.is_closing() or request.content.exception() is not None:
        return False
    if length is not None and length <= _DROPPED_BYTES:
        return False
    request.content.read_nowait()  # otherwise reading would resume as soon as aiohttp drops what has arrived
    transport.pause_reading()
    return True


def _make_request(
    request_factory: Callable[..., web.BaseRequest], message: RawRequestMessage, *args: object
) -> web.BaseRequest:
    """Make a request. Replace a missing target, which only CONNECT may have: aiohttp would neither answer nor close."""
    try:
        return request_factory(message, *args)
    except AttributeError:  # its URL is None
        return request_factory(message._replace(url=URL("/"), should_close=True), *args)


async def _wait_until_drained(wrapper: RequestWrapper, timeout_s: float) -> None:
    """Wait until no request is in flight, but at most `timeout_s`."""
    wrapper.is_draining = True
    try:
        async with asyncio.timeout(timeout_s):
            await asyncio.sleep(_DRAIN_POLL_S)  # so that a request received but not read yet counts too
            while wrapper.in_flight:  # noqa: ASYNC110 - an event would cost every request
                await asyncio.sleep(_DRAIN_POLL_S)
    except TimeoutError:
        return
