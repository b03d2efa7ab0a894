"""The views of the web process: health, readiness, metrics, and deliveries that come through aiohttp's router."""

from typing import Final

import orjson
from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from redis.asyncio import Redis

from ingest.readiness import Readiness
from ingest.receiver import Receiver
from ingest.server.connection_limits import ConnectionLimits
from ingest.server.metrics_page import CONTENT_TYPE, MetricsPage
from ingest.server.request_wrapper import REQUEST_ID, SUMMARY, RequestWrapper
from spokes.core.settings import Settings
from spokes.intake.backpressure import Backpressure, PressureLevel

SETTINGS: Final = web.AppKey("settings", Settings)
REDIS: Final = web.AppKey("redis", Redis)
READINESS: Final = web.AppKey("readiness", Readiness)
RECEIVER: Final = web.AppKey("receiver", Receiver)
BACKPRESSURE: Final = web.AppKey("backpressure", Backpressure)
METRICS_PAGE: Final = web.AppKey("metrics_page", MetricsPage)
CONNECTION_LIMITS: Final = web.AppKey[ConnectionLimits[RequestHandler]]("connection_limits")
REQUEST_WRAPPER: Final = web.AppKey("request_wrapper", RequestWrapper)


async def receive(request: web.Request) -> web.Response:
    """Receive a delivery that `http_server` did not route directly, such as one with an `Expect` header."""
    summary = request[SUMMARY] = await request.app[RECEIVER].receive(request, request[REQUEST_ID])
    return web.Response(status=202, body=orjson.dumps(summary), content_type="application/json")


async def on_expect_header(request: web.Request) -> None:
    """Answer `Expect: 100-continue`; ignore any other expectation, so that the request is handled like others."""
    if request.headers["Expect"].lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # aiohttp must not count this as the beginning of the response


async def healthz(_: web.Request) -> web.Response:
    """Return 200: the process runs."""
    return web.Response(text="ok\n")


async def readyz(request: web.Request) -> web.Response:
    """Return 200 if deliveries can be received: Redis takes writes and does not lose data.

    The body lists what is wrong in sentences. Durability risks that are a misconfiguration, and all of them with
    REQUIRE_PERSISTENCE, turn the status into 503.
    """
    backpressure = request.app[BACKPRESSURE]
    if backpressure.level is PressureLevel.NOTHING:
        return web.Response(status=503, text=backpressure.sentence + "\n")
    state = await request.app[READINESS].state()
    return web.Response(status=200 if state.is_ready else 503, text="\n".join(state.sentences or ("ok",)) + "\n")


async def metrics(request: web.Request) -> web.Response:
    """Return Prometheus' page, for all processes."""
    page = request.app[METRICS_PAGE]
    if not page.may_read(request.headers.get("Authorization", "")):
        raise web.HTTPUnauthorized
    request.app[REQUEST_WRAPPER].flush_metrics()
    return web.Response(body=await page.render(), headers={"Content-Type": CONTENT_TYPE})
