"""The views of the web process. Rule: each reads, asks one of the modules beside it, and answers."""

import asyncio
import time
from typing import Final

import orjson
from aiohttp import web
from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.errors import QueueUnavailable, RejectedRequest
from core.event_keys import EventKeys
from core.events import parse
from core.metrics import EVENTS
from core.refusals import Refusal
from core.settings import Settings
from core.totals import Totals
from ingest.admission import Admission
from ingest.allow_list import AllowList
from ingest.arrivals import Arrival, sort_out
from ingest.guard import admit
from ingest.load import Load, findings
from ingest.metrics import CONTENT_TYPE, metrics_page
from ingest.refusals import Refusals
from ingest.signature import verify

SETTINGS: Final = web.AppKey("settings", Settings)
REDIS: Final = web.AppKey("redis", Redis)
ADMISSION: Final = web.AppKey("admission", Admission)
ALLOW_LIST: Final = web.AppKey("allow_list", AllowList)
LOAD: Final = web.AppKey("load", Load)
REFUSALS: Final = web.AppKey("refusals", Refusals)
TOTALS: Final = web.AppKey("totals", Totals)
ADDRESS: Final = web.RequestKey("address", str)
SUMMARY: Final = web.RequestKey("summary", dict[str, object])
KEYS: Final = web.AppKey("keys", EventKeys)


async def receive(request: web.Request) -> web.Response:
    """Take a delivery in: 202 once every wanted event of it is safe in Redis."""
    app = request.app
    settings, load = app[SETTINGS], app[LOAD]
    load.admit_request()
    request[ADDRESS] = admit(
        request.headers, request.remote, proxies=settings.trusted_proxies, networks=settings.allowed_addresses
    )
    if (request.content_length or 0) > settings.max_body_bytes:
        raise RejectedRequest(Refusal.BODY_TOO_LARGE)
    body = await _body(request, settings.body_timeout_s)
    now_ms = time.time_ns() // 1_000_000
    verify(
        method=request.method,
        uri=settings.public_url + request.raw_path,
        body=body,
        headers=request.headers,
        secrets=settings.client_secrets,
        now_ms=now_ms,
        versions=settings.signature_versions,
        max_age_s=settings.signature_max_age_s,
        max_skew_s=settings.signature_max_skew_s,
    )
    if "Content-Type" in request.headers and "json" not in request.content_type:
        raise RejectedRequest(Refusal.CONTENT_TYPE)
    batch = parse(body)
    load.admit_events(batch.events)
    arrivals = sort_out(
        batch, allow_list=app[ALLOW_LIST], keys=app[KEYS], portal_ids=settings.portal_ids, now_ms=now_ms
    )
    admitted = [await app[ADMISSION].admit(arrival) for arrival in arrivals]
    counts = _counts(admitted)
    for fate, count in counts.items():
        if count:
            EVENTS.labels(fate).inc(count)
    ids = [arrival.id for arrival in admitted]
    request[SUMMARY] = {"deliveries": ids, **counts}
    return web.Response(status=202, body=orjson.dumps({"deliveries": ids, **counts}), content_type="application/json")


async def expect(request: web.Request) -> None:
    """Let a sender that waits for it go on; any other expectation is passed over, and the request judged as it is."""
    if request.headers["Expect"].lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # what was written is not yet the answer


async def _body(request: web.Request, seconds: float) -> bytes:
    """Read the body, as it came; nearly always it is here already."""
    if request.content.is_eof():
        return await request.read()
    try:
        async with asyncio.timeout(seconds):
            return await request.read()
    except TimeoutError:
        raise RejectedRequest(Refusal.BODY_TOO_SLOW) from None


async def healthz(_: web.Request) -> web.Response:
    """The process lives."""
    return web.Response(text="ok\n")


async def readyz(request: web.Request) -> web.Response:
    """Redis answers and keeps what it is given, so deliveries can be taken; what is doubtful is said in sentences.

    Raises:
        QueueUnavailable: Redis does not answer, or is full.
    """
    app = request.app
    app[LOAD].admit_request()
    try:
        found = await findings(app[REDIS])
    except (RedisError, OSError, TimeoutError):
        raise QueueUnavailable from None
    evicts = any("evicts" in sentence for sentence in found)
    status = 503 if evicts or (found and app[SETTINGS].require_persistence) else 200
    return web.Response(status=status, text="\n".join(found or ["ok"]) + "\n")


async def metrics(request: web.Request) -> web.Response:
    """Prometheus' page, for all processes."""
    body = await metrics_page(request.app[REDIS], request.app[TOTALS])
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})


def _counts(arrivals: list[Arrival]) -> dict[str, int]:
    """How many events met which fate at the door."""
    admitted = sum(len(arrival.entries) for arrival in arrivals)
    duplicate = sum(arrival.duplicates for arrival in arrivals)
    ignored = sum(sum(arrival.ignored.values()) for arrival in arrivals)
    received = sum(arrival.received for arrival in arrivals)
    quarantined = received - admitted - duplicate - ignored
    return {"admitted": admitted, "duplicate": duplicate, "ignored": ignored, "quarantined": quarantined}
