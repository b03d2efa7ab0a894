"""Put the web process together. Rule: what is opened here is closed here, in reverse order."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import structlog
from aiohttp import web
from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.connections import redis_client
from core.event_keys import EventKeys
from core.masking import derive_key
from core.settings import RECEIVER_PATH, Settings
from core.totals import Totals
from handlers.routing import load_router
from ingest.admission import Admission
from ingest.allow_list import AllowList
from ingest.guard import FailureLimit
from ingest.load import Load, findings
from ingest.middlewares import IN_FLIGHT, InFlight, answer
from ingest.refusals import Refusals
from ingest.views import (
    ADMISSION,
    ALLOW_LIST,
    KEYS,
    LOAD,
    REDIS,
    REFUSALS,
    SETTINGS,
    TOTALS,
    expect,
    healthz,
    metrics,
    readyz,
    receive,
)

log = structlog.get_logger()


def create_app(settings: Settings) -> web.Application:
    """Return the application that `settings` ask for.

    Raises:
        ConfigurationError: HANDLERS or ALLOWED_EVENTS is wrong.
    """
    app = web.Application(middlewares=[answer], client_max_size=settings.max_body_bytes)
    app[SETTINGS] = settings
    app[IN_FLIGHT] = InFlight()
    app[ALLOW_LIST] = AllowList(load_router(settings.handlers).claims, settings.allowed_events)
    app[KEYS] = EventKeys(derive_key(settings.master_key(), "event keys"))
    app.router.add_post(RECEIVER_PATH, receive, expect_handler=expect)
    app.router.add_get("/healthz", healthz, expect_handler=expect)
    app.router.add_get("/readyz", readyz, expect_handler=expect)
    app.router.add_get("/metrics", metrics, expect_handler=expect)
    app.cleanup_ctx.append(_redis)
    return app


async def _redis(app: web.Application) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    redis = app[REDIS] = redis_client(settings, max_connections=8)
    app[ADMISSION] = Admission(
        redis,
        keep_s=settings.dedupe_hours * 3600,
        durable=settings.durable_ack == "aof",
        timeout_s=settings.redis_timeout_s,
    )
    limit = FailureLimit(settings.failed_signature_limit)
    app[REFUSALS] = Refusals(redis, limit, derive_key(settings.master_key(), "addresses"))
    app[LOAD] = Load(redis, settings)
    totals = app[TOTALS] = Totals(redis, "web")
    stop = asyncio.Event()
    sharing = asyncio.create_task(totals.run())
    beside = [asyncio.create_task(work) for work in (app[REFUSALS].run(stop), app[LOAD].run(stop), _warn(redis))]
    yield
    stop.set()
    await asyncio.gather(*beside)
    with contextlib.suppress(RedisError, OSError):
        await app[REFUSALS].tell()
    sharing.cancel()
    await asyncio.gather(sharing, return_exceptions=True)
    await totals.end()
    await app[ADMISSION].close()
    await redis.aclose()


async def _warn(redis: Redis) -> None:
    """Say at start what this Redis would lose."""
    with contextlib.suppress(RedisError, OSError):
        for sentence in await findings(redis):
            log.warning("redis_would_lose_events", advice=sentence)
