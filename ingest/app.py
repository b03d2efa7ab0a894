"""Assemble and close the web application; its parts are closed in reverse order of opening."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ingest.body_reader import BodyReader
from ingest.failure_limit import FailureLimit
from ingest.initial_samples import start_counters
from ingest.readiness import Readiness
from ingest.receiver import Receiver
from ingest.refusal_log import RefusalLog
from ingest.server.connection_limits import (
    ConnectionAlert,
    ConnectionLimits,
    max_connections,
    max_console_requests,
    open_file_limit,
)
from ingest.server.console_proxy import CONSOLE, ConsoleProxy
from ingest.server.metrics_page import MetricsPage
from ingest.server.request_wrapper import RequestWrapper
from ingest.server.supervised_child import SupervisedChild
from ingest.server.views import (
    BACKPRESSURE,
    CONNECTION_LIMITS,
    METRICS_PAGE,
    READINESS,
    RECEIVER,
    REDIS,
    REQUEST_WRAPPER,
    SETTINGS,
    healthz,
    metrics,
    on_expect_header,
    readyz,
    receive,
)
from spokes.audit.alerts.alert_episodes import REPORT_HELD_EVERY_S, AlertEpisodes
from spokes.core import clock
from spokes.core.background import Background
from spokes.core.masking import derive_key
from spokes.core.master_key import load_master_key
from spokes.core.redis.connections import redis_client
from spokes.core.redis.durability import durability_risks
from spokes.core.redis.outage import RedisOutage
from spokes.core.settings import RECEIVER_PATH, Settings
from spokes.core.telemetry.metric_history import flush_with_history
from spokes.core.telemetry.metric_totals import FLUSH_EVERY_S as TOTALS_EVERY_S
from spokes.core.telemetry.metric_totals import MetricTotals
from spokes.gaps.heartbeat import BEAT_EVERY_S, WebHeartbeat
from spokes.gaps.refused_deliveries import REPORT_EVERY_S, RefusedDeliveries
from spokes.intake.admission import Admission
from spokes.intake.allow_list import AllowList
from spokes.intake.arrivals import FLUSH_EVERY_S as ARRIVALS_EVERY_S
from spokes.intake.arrivals import Arrivals
from spokes.intake.backpressure import MEASURE_EVERY_S, Backpressure
from spokes.intake.event_keys import EventKeys
from spokes.intake.portal_restrictions import PortalAllowLists
from spokes.portals.published_profiles import REFRESH_EVERY_S as PROFILES_EVERY_S
from spokes.portals.published_profiles import PublishedProfiles
from spokes.queue.quarantine import Quarantine
from spokes.routing import Router, load_router

_FLUSH_EVERY_S: Final = 1.0
log = structlog.get_logger()


def create_app(settings: Settings, *, child_folder: Path | None = None) -> web.Application:
    """Return the web application.

    Args:
        settings: of the deployment.
        child_folder: see `temporary_child_folder`; None runs neither the console nor the journal's reader.

    Raises:
        ConfigurationError: HANDLERS or ALLOWED_EVENTS is wrong.
    """
    router = load_router(settings.handlers)
    allow_list = AllowList(router.registrations, settings.allowed_events)
    app = web.Application(client_max_size=settings.max_body_bytes)
    app[SETTINGS] = settings
    files = open_file_limit()
    app[CONNECTION_LIMITS] = ConnectionLimits(max_connections(files), counts_clients=not settings.trusted_proxies)
    body_reader = BodyReader(timeout_s=settings.body_timeout_s, trusted_proxies=settings.trusted_proxies)
    app.router.add_post(RECEIVER_PATH, receive, expect_handler=on_expect_header)
    app.router.add_get("/healthz", healthz, expect_handler=on_expect_header)
    app.router.add_get("/readyz", readyz, expect_handler=on_expect_header)
    app.router.add_get("/metrics", metrics, expect_handler=on_expect_header)
    app.cleanup_ctx.append(partial(_services_context, router, allow_list, body_reader))
    if child_folder is not None and settings.console_key.get_secret_value():
        app[CONSOLE] = ConsoleProxy(
            settings, child_folder, body_reader, app[CONNECTION_LIMITS], max_requests=max_console_requests(files)
        )
        app.cleanup_ctx.append(_console_context)
        app.on_shutdown.append(app[CONSOLE].disconnect)
    if child_folder is not None and settings.journal:
        reader = SupervisedChild("journal", "ingest.journal", ("--with-parent",), child_folder)
        app.cleanup_ctx.append(partial(_child_context, reader))
    return app


async def _child_context(child: SupervisedChild, _: web.Application) -> AsyncIterator[None]:
    supervisor = asyncio.create_task(child.supervise())
    yield
    supervisor.cancel()
    await asyncio.gather(supervisor, return_exceptions=True)


async def _console_context(app: web.Application) -> AsyncIterator[None]:
    async with app[CONSOLE]:
        yield


async def _services_context(
    router: Router, allow_list: AllowList, body_reader: BodyReader, app: web.Application
) -> AsyncIterator[None]:
    """Open what the views use, run its background tasks, and close it."""
    settings = app[SETTINGS]
    redis = app[REDIS] = redis_client(settings, max_connections=settings.redis_web_connections)
    admission = Admission(
        redis,
        dedupe_ttl_s=settings.dedupe_hours * 3600,
        durable=settings.durable_ack == "aof",
        timeout_s=settings.redis_timeout_s,
    )
    limit = FailureLimit(settings.failed_signature_limit)
    refusal_log = RefusalLog(redis, limit, derive_key(load_master_key(settings), "addresses"))
    backpressure = app[BACKPRESSURE] = Backpressure(redis, settings)
    readiness = app[READINESS] = Readiness(redis, settings)
    keys = EventKeys(derive_key(load_master_key(settings), "event keys"))
    quarantine = Quarantine.from_settings(redis, settings)
    arrivals = Arrivals()
    refused = RefusedDeliveries(redis)
    app[RECEIVER] = Receiver(
        settings, allow_list, keys, body_reader=body_reader, backpressure=backpressure, admission=admission,
        quarantine=quarantine, arrivals=arrivals, on_refused=refused.identify,
    )  # fmt: skip
    wrapper = app[REQUEST_WRAPPER] = RequestWrapper(
        refusal_log, trusted_proxies=settings.trusted_proxies, on_unavailable=refused.refuse
    )
    start_counters()
    totals = MetricTotals(redis, "web")
    app[METRICS_PAGE] = MetricsPage(redis, totals, settings.metrics_token.get_secret_value())
    report = AlertEpisodes(redis).report_once
    connection_alert = ConnectionAlert(app[CONNECTION_LIMITS], report)
    background = Background(RedisOutage(), report)
    background.every(_FLUSH_EVERY_S, "refusals", refusal_log.flush)
    background.every(MEASURE_EVERY_S, "backpressure", backpressure.measure)
    background.every(BEAT_EVERY_S, "heartbeat", WebHeartbeat(redis).beat)
    background.every(REPORT_EVERY_S, "refused deliveries", refused.report)
    background.every(TOTALS_EVERY_S, "metric totals", partial(flush_with_history, redis, totals))
    background.every(ARRIVALS_EVERY_S, "arrivals", partial(_store_arrivals, redis, arrivals))
    background.every(REPORT_HELD_EVERY_S, "held alerts", AlertEpisodes(redis).report_held)
    background.every(_FLUSH_EVERY_S, "request metrics", wrapper.flush_metrics)
    background.every(_FLUSH_EVERY_S, "connections", connection_alert.flush)
    restrictions = PortalAllowLists(allow_list, router, settings.allowed_events, PublishedProfiles(redis))
    background.every(PROFILES_EVERY_S, "portal settings", restrictions.refresh)
    background.start("durability", partial(_warn_about_durability, redis, durable=admission.durable))
    yield
    await background.close()
    await readiness.close()
    with contextlib.suppress(RedisError, OSError):
        await refused.report()
        await refusal_log.write_records()
        await _store_arrivals(redis, arrivals)
    wrapper.flush_metrics()
    await totals.close()
    await admission.close()
    await redis.aclose()


async def _store_arrivals(redis: Redis, arrivals: Arrivals) -> None:
    await arrivals.flush(redis, clock.now_ms())


async def _warn_about_durability(redis: Redis, *, durable: bool) -> None:
    """Log at start what this Redis server could lose."""
    for risk in await durability_risks(redis, durable=durable):
        log.warning("redis_would_lose_events", advice=risk.message)
