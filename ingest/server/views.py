"""The views of the web process. Rule: each reads, asks one of the modules beside it, and answers."""

from typing import Final

import orjson
from aiohttp import web
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ingest.receiver import Receiver
from ingest.server.metrics_page import CONTENT_TYPE, MetricsPage
from ingest.server.request_wrapper import SUMMARY, RequestWrapper
from spokes.core.errors import QueueUnavailable
from spokes.core.redis.durability import durability_risks
from spokes.core.settings import Settings
from spokes.intake.backpressure import Backpressure

SETTINGS: Final = web.AppKey("settings", Settings)
REDIS: Final = web.AppKey("redis", Redis)
RECEIVER: Final = web.AppKey("receiver", Receiver)
BACKPRESSURE: Final = web.AppKey("load", Backpressure)
METRICS_PAGE: Final = web.AppKey("metrics", MetricsPage)
REQUEST_WRAPPER: Final = web.AppKey("surroundings", RequestWrapper)


async def receive(request: web.Request) -> web.Response:
    """Receive a delivery whose request line is not the usual one; see `ingest.server.http_server`."""
    summary = request[SUMMARY] = await request.app[RECEIVER].receive(request)
    return web.Response(status=202, body=orjson.dumps(summary), content_type="application/json")


async def on_expect_header(request: web.Request) -> None:
    """Let a sender that waits for it go on; any other expectation is passed over, and the request judged as it is."""
    if request.headers["Expect"].lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # what was written is not yet the answer


async def healthz(_: web.Request) -> web.Response:
    """The process lives."""
    return web.Response(text="ok\n")


async def readyz(request: web.Request) -> web.Response:
    """Redis answers and keeps what it is given, so deliveries can be taken; what is doubtful is said in sentences.

    Raises:
        QueueUnavailable: Redis does not answer, or is full.
    """
    app = request.app
    app[BACKPRESSURE].check_request()
    try:
        found = await durability_risks(app[REDIS], durable=app[SETTINGS].durable_ack == "aof")
    except (RedisError, OSError, TimeoutError):
        raise QueueUnavailable from None
    unfit = any(loss.is_misconfiguration or app[SETTINGS].require_persistence for loss in found)
    sentences = [loss.message for loss in found] or ["ok"]
    return web.Response(status=503 if unfit else 200, text="\n".join(sentences) + "\n")


async def metrics(request: web.Request) -> web.Response:
    """Prometheus' page, for all processes."""
    page = request.app[METRICS_PAGE]
    if not page.may_read(request.headers.get("Authorization", "")):
        raise web.HTTPUnauthorized
    request.app[REQUEST_WRAPPER].flush_metrics()
    return web.Response(body=await page.render(), headers={"Content-Type": CONTENT_TYPE})
