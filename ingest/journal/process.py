"""Assemble and close what the reader's process uses."""

import asyncio
import contextlib
from functools import partial
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ingest.journal.client import JournalClient
from ingest.journal.page_intake import PageIntake
from ingest.journal.reader import RENEW_EVERY_S, JournalReader
from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core import clock
from spokes.core.background import Background
from spokes.core.redis.connections import redis_client
from spokes.core.redis.outage import RedisOutage
from spokes.core.settings import Settings
from spokes.core.telemetry.metric_history import flush_with_history
from spokes.core.telemetry.metric_totals import FLUSH_EVERY_S, MetricTotals
from spokes.core.telemetry.metrics import JOURNAL_EVENTS, start_at_zero
from spokes.intake.arrivals import FLUSH_EVERY_S as ARRIVALS_EVERY_S
from spokes.intake.arrivals import Arrivals
from spokes.intake.backpressure import MEASURE_EVERY_S, Backpressure
from spokes.intake.event_source import EventSource
from spokes.routing import load_router

_RESULTS: Final = ("admitted", "duplicate", "ignored", "quarantined")
log = structlog.get_logger()


async def run_reader(settings: Settings) -> None:
    """Read the journal until cancelled.

    Raises:
        ConfigurationError: HANDLERS or ALLOWED_EVENTS is wrong.
    """
    registrations = load_router(settings.handlers).registrations
    redis = redis_client(settings, max_connections=settings.redis_web_connections)
    source = EventSource.from_settings("journal", redis, settings, registrations)
    client = JournalClient(settings)
    backpressure = Backpressure(redis, settings)
    totals = MetricTotals(redis, "journal")
    pages = PageIntake(redis, source, backpressure)
    reader = JournalReader(redis, client, pages)
    start_at_zero(JOURNAL_EVENTS, _RESULTS)
    outage = RedisOutage()
    background = Background(outage, AlertEpisodes(redis).report_once)
    background.every(MEASURE_EVERY_S, "backpressure", backpressure.measure)
    background.every(FLUSH_EVERY_S, "metric totals", partial(flush_with_history, redis, totals))
    background.every(ARRIVALS_EVERY_S, "arrivals", partial(_store_arrivals, redis, pages.arrivals))
    background.every(RENEW_EVERY_S, "lease", reader.renew_lease)
    background.start("journal", partial(reader.run, outage, "journal"))
    log.info("journal_reader_ready", handlers=len(registrations))
    try:
        await asyncio.Event().wait()
    finally:
        await background.close()
        with contextlib.suppress(RedisError, OSError):
            await reader.close()
            await _store_arrivals(redis, pages.arrivals)
        await totals.close()
        await client.close()
        await source.close()
        await redis.aclose()


async def _store_arrivals(redis: Redis, arrivals: Arrivals) -> None:
    await arrivals.flush(redis, clock.now_ms())
