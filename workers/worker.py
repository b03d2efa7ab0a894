"""Assemble the worker process: arq's settings, start-up, shutdown. Everything opened here is closed in reverse order.

arq drops jobs silently in four cases, each prevented here or in `run_delivery`: job keys never expire; a job that
cannot be decoded, or is not a delivery, is stored as unreadable with an alert; and tries are counted by us.
"""

import asyncio
import os
import random
import signal
import socket
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from functools import partial
from types import FrameType
from typing import Any, Final, cast

import structlog
from arq.connections import ArqRedis
from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.audit.alert_episodes import REPORT_HELD_EVERY_S, AlertEpisodes
from spokes.audit.alert_webhook import AlertWebhook
from spokes.audit.archiver import Archiver
from spokes.core import clock
from spokes.core.background import Background, pause_s
from spokes.core.delivery import JOB_NAME, decode, encode, unread_argument
from spokes.core.errors import NotAuthorized, UnreadableDelivery
from spokes.core.redis.connections import redis_pool
from spokes.core.redis.deployment import claim_database
from spokes.core.redis.keys import JOB_QUEUE, WORKER_HEALTH
from spokes.core.redis.outage import RedisOutage
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.core.telemetry.metric_history import flush_with_history
from spokes.core.telemetry.metric_totals import FLUSH_EVERY_S, MetricTotals
from spokes.core.telemetry.secret_ages import token_fingerprint
from spokes.crm.scopes import Declaration, log_scope_differences
from spokes.crm.services import CRM
from spokes.portals.directory import REFRESH_EVERY_S as REFRESH_PORTALS_EVERY_S
from spokes.portals.directory import PortalDirectory
from spokes.portals.published_profiles import REFRESH_EVERY_S as PROFILES_EVERY_S
from spokes.portals.published_profiles import PublishedProfiles
from spokes.queue.default_queue import DefaultQueueWatch
from spokes.queue.erased_objects import REFRESH_EVERY_S
from spokes.queue.pauses.portal_pauses import PortalPauses
from spokes.queue.registration_times import RECORD_EVERY_S, RegistrationTimes
from spokes.queue.running_deliveries import PUBLISH_EVERY_S, publish_running
from spokes.queue.token_reports import REPORT_EVERY_S
from spokes.queue.token_scopes import report_scopes
from spokes.routing import Router, load_router
from workers.crash_trace import CrashTrace, open_trace
from workers.credentials.installed_portals import InstalledPortals
from workers.credentials.refused_token import CHECK_EVERY_S
from workers.delivery.dispatch import running_item
from workers.delivery.missing_credentials import ANNOUNCE_EVERY_S
from workers.delivery.run_delivery import PREFETCH_FACTOR, WorkerParts, run_delivery
from workers.initial_samples import start_counters
from workers.lanes.lane_manager import LEASE_MS
from workers.process_globals import ProcessGlobals
from workers.protected_process import exit_process
from workers.queue.arq_worker import ArqBatchWorker
from workers.queue.claim_gate import MEASURE_EVERY_S as GATE_EVERY_S
from workers.queue.claim_gate import ClaimGate
from workers.queue.claimed_job import ClaimedJob, DeliveryEnd
from workers.queue.lease_thread import LeaseThread
from workers.queue.leases import RENEW_EVERY_S, Lease, LeaseRenewal
from workers.queue.progress import deadline_s, long_running
from workers.queue.room import Room
from workers.upkeep import schedule
from workers.upkeep.blocked_worker import end_blocked_worker
from workers.upkeep.gauges import MEASURE_EVERY_S, update_gauges
from workers.upkeep.left_traces import EXAMINE_EVERY_S, LeftTraces
from workers.upkeep.loop_watchdog import Watchdog
from workers.upkeep.nightly_reconciliation import NightlyReconciliation
from workers.upkeep.portal_settings import publish_profiles

_POLL_S: Final = 0.5  # a fallback: a message wakes us for each queued job
_JOBS_SHUTDOWN_S: Final = 20  # for running jobs, after SIGTERM; Heroku kills a dyno after 30 s
_CLOSE_TIMEOUT_S: Final = 7  # for closing after that, if Redis or the audit store does not answer
_PUBLISH_TIMEOUT_S: Final = 5.0  # at start, for the settings of portals in SQL; Redis has a copy of them
_NO_TIMEOUT_S: Final = 10 * 365 * 86_400  # arq's job time-out is final and silent; handlers have their own
_NO_LIMIT: Final = 1_000_000_000
_TRACED_CALLS_PER_TASK: Final = 8  # tasks beyond MAX_OBJECTS: see LanePool, and those of handlers that were given up
_MIN_BLOCKED_S: Final = 10.0  # until a blocked worker ends itself, even if handlers may run a shorter time
log = structlog.get_logger()


class _WorkerRedis(ArqRedis):
    """arq closes its pool with a call that redis-py has renamed."""

    async def close(self, close_connection_pool: bool | None = None) -> None:  # noqa: FBT001 - redis-py's signature
        """Close the connections."""
        await self.aclose(close_connection_pool)


def build_worker(  # noqa: PLR0915 - one part a line
    settings: Settings, *, burst: bool = False, has_upkeep: bool = True
) -> ArqBatchWorker:
    """Return the arq worker for `settings`; call it inside a running event loop.

    Args:
        settings: must include HUBSPOT_ACCESS_TOKEN or HUBSPOT_CLIENT_ID.
        burst: end when the queue is empty, for tests and one-off runs.
        has_upkeep: also handle signals, archive, measure, and watch the event loop. Without, only deliveries run, as in
            the tests of handlers.

    Raises:
        ConfigurationError: HANDLERS is wrong.
    """
    router = load_router(settings.handlers)
    # Blocking reads of the audit stream take longer than REDIS_TIMEOUT_S, and a worker may wait for Redis longer than
    # the five seconds of a web process.
    redis = _WorkerRedis(redis_pool(settings, max_connections=settings.redis_worker_connections, timeout_s=20))
    holder = f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}"
    outage = RedisOutage()
    gate = ClaimGate(redis, settings)
    stack = AsyncExitStack()

    async def start_up(ctx: dict[str, Any]) -> None:
        async with AsyncExitStack() as opening:  # closes what was opened if start-up fails half way
            await _claim_database(redis, settings, outage)
            crm, directory = await _open_crm(settings, redis, opening)
            pauses = _open_pauses(settings, redis, crm)
            max_calls = _TRACED_CALLS_PER_TASK * settings.max_objects
            trace = opening.enter_context(open_trace(settings.data_dir, holder, max_calls))
            parts = WorkerParts.start(
                settings,
                redis,
                router,
                crm,
                pauses,
                holder=holder,
                outage=outage,
                trace=trace,
                directory=directory,
                profiles=await _read_profiles(settings, redis, is_publisher=has_upkeep),
            )
            opening.push_async_callback(parts.close)
            opening.push_async_callback(parts.refused_token.close)
            ctx.update(parts=parts, budget=crm.budget)
            if not has_upkeep:
                ctx["pauses"] = pauses
                await _learn_portal(crm, router, redis, outage)
                stack.push_async_exit(opening.pop_all())
                return
            parts.timeouts.process_globals = ProcessGlobals(worker.loop)
            archiver = Archiver.open(settings, redis)
            opening.push_async_callback(archiver.close)
            start_counters(router)
            totals = MetricTotals(redis, "worker")
            opening.push_async_callback(totals.close)
            registrations = RegistrationTimes(redis, router)
            opening.push_async_callback(registrations.close)
            opening.enter_context(_watchdog(settings, router, redis, trace))

            renewal = LeaseRenewal(redis, partial(_leases, worker, parts), LEASE_MS, parts.lease_renewed)
            opening.enter_context(LeaseThread(settings, renewal))
            background = Background(outage, AlertEpisodes(redis).report_once)
            opening.push_async_callback(background.close)
            background.every(RENEW_EVERY_S, "leases", renewal.renew)
            background.every(GATE_EVERY_S, "claim gate", gate.measure)
            background.every(FLUSH_EVERY_S, "metric totals", partial(flush_with_history, redis, totals))
            background.every(RECORD_EVERY_S, "registrations", registrations.record)
            background.every(PUBLISH_EVERY_S, "running deliveries", lambda: _publish_progress(settings, worker, parts))
            background.every(MEASURE_EVERY_S, "gauges", partial(update_gauges, redis, crm.budget))
            background.start("pauses", partial(pauses.watch, outage, "pauses"))
            background.start("default queue", partial(DefaultQueueWatch(redis).run, outage, "default queue"))
            background.start("archiver", partial(archiver.run, outage=outage))
            _start_alerts(background, settings, redis, outage)
            _start_upkeep(background, settings, redis, crm, router=router, outage=outage)
            traces = LeftTraces(redis, router, settings)
            await traces.examine()  # before their events are claimed again
            background.every(EXAMINE_EVERY_S, "left traces", traces.examine)
            await parts.erased.refresh()  # before the first event is claimed
            background.every(REFRESH_EVERY_S, "erased objects", parts.erased.refresh)
            await _learn_portal(crm, router, redis, outage)
            _watch_portals(background, directory, parts.profiles)
            background.every(ANNOUNCE_EVERY_S, "credentials", parts.missing_credentials.announce)
            background.every(REPORT_EVERY_S, "token reports", parts.refused_token.report)
            background.every(CHECK_EVERY_S, "token check", parts.refused_token.check)
            stack.push_async_exit(opening.pop_all())
        log.info("worker_ready", handlers=len(router.registrations), burst=burst)

    async def shut_down(ctx: dict[str, Any]) -> None:
        del ctx
        await stack.aclose()

    def free_capacity() -> Room:
        parts: WorkerParts = worker.ctx["parts"]
        return parts.free_capacity()

    def run_job(claimed: ClaimedJob) -> Coroutine[Any, Any, DeliveryEnd]:
        return run_delivery(claimed, worker.ctx["parts"])

    def settle_failed(claimed: ClaimedJob, error: Exception) -> Coroutine[Any, Any, DeliveryEnd | None]:
        return cast("WorkerParts", worker.ctx["parts"]).settle_failed(claimed, error)

    worker = ArqBatchWorker(
        holder=holder,
        lease_ms=LEASE_MS,
        outage=outage,
        gate=gate,
        free_capacity=free_capacity,
        skipped_portals=lambda: worker.ctx["parts"].missing_credentials.served_elsewhere(),  # noqa: PLW0108 - `ctx` has no parts yet
        are_calls_scarce=lambda: worker.ctx["budget"].is_scarce,
        run_job=run_job,
        settle_failed=settle_failed,
        functions=[_process_delivery],
        queue_name=JOB_QUEUE,
        health_check_key=WORKER_HEALTH,
        redis_pool=redis,
        burst=burst,
        handle_signals=has_upkeep,
        on_startup=start_up,
        on_shutdown=shut_down,
        job_completion_wait=_JOBS_SHUTDOWN_S,
        max_jobs=PREFETCH_FACTOR * settings.max_deliveries,
        job_timeout=_NO_TIMEOUT_S,
        keep_result=0,
        poll_delay=_POLL_S,
        max_tries=_NO_LIMIT,
        job_serializer=encode,
        job_deserializer=decode_job,
        log_results=False,
    )

    def limit_shutdown(_: signal.Signals) -> None:
        worker.loop.call_later(_CLOSE_TIMEOUT_S, _exit_unclosed)

    worker.on_stop = limit_shutdown
    return worker


async def _open_crm(settings: Settings, redis: Redis, opening: AsyncExitStack) -> tuple[CRM, PortalDirectory | None]:
    """Return the CRM, and the states of portals if customers can install the app; `opening` closes them."""
    installed = InstalledPortals.open(settings, redis)
    if installed is None:
        crm = await CRM.open(settings, redis)
        opening.push_async_callback(crm.close)
        return crm, None
    opening.push_async_callback(installed.close)
    crm = await CRM.open(settings, redis, installed.credentials)
    opening.push_async_callback(crm.close)
    await installed.load()
    return crm, installed.directory


async def _read_profiles(settings: Settings, redis: Redis, *, is_publisher: bool) -> PublishedProfiles:
    """Return the settings of portals, read before the first event is claimed."""
    profiles = PublishedProfiles(redis)
    with suppress(RedisError, OSError, TimeoutError):  # they are read again every few seconds
        if is_publisher:
            async with asyncio.timeout(_PUBLISH_TIMEOUT_S):
                await publish_profiles(settings, redis)
        await profiles.refresh()
    return profiles


def _watch_portals(background: Background, directory: PortalDirectory | None, profiles: PublishedProfiles) -> None:
    async def read_profiles() -> None:
        await profiles.refresh()

    background.every(PROFILES_EVERY_S, "portal settings", read_profiles)
    if directory is not None:
        background.every(REFRESH_PORTALS_EVERY_S, "portals", directory.refresh)


def _leases(worker: ArqBatchWorker, parts: WorkerParts) -> list[Lease]:
    return [*worker.leases(), *parts.leases()]


async def _publish_progress(settings: Settings, worker: ArqBatchWorker, parts: WorkerParts) -> None:
    handlers, overdue_s = (
        parts.timeouts.running_handlers(),
        deadline_s(max(settings.handler_timeout_s, parts.router.longest_timeout_s)),
    )
    runs = long_running(worker.started_at, handlers, worker.holder, clock.now_ms(), overdue_s)
    await publish_running(parts.redis, worker.holder, runs)


def _start_upkeep(
    background: Background, settings: Settings, redis: Redis, crm: CRM, *, router: Router, outage: RedisOutage
) -> None:
    background.start("periodic jobs", partial(schedule.run_schedule, settings, redis, crm, outage, "periodic jobs"))
    if settings.nightly_reconciliation:
        nightly = NightlyReconciliation(settings, redis, crm, router)
        background.start("reconciliation", partial(nightly.run, outage, "reconciliation"))


def _start_alerts(background: Background, settings: Settings, redis: Redis, outage: RedisOutage) -> None:
    background.every(REPORT_HELD_EVERY_S, "held alerts", AlertEpisodes(redis).report_held)
    background.start("alert webhook", partial(AlertWebhook(settings, redis).run, outage, "alert webhook"))


def _watchdog(settings: Settings, router: Router, redis: Redis, trace: CrashTrace | None) -> Watchdog:
    def end_process(frame: FrameType | None, fields: dict[str, Any]) -> None:
        item = running_item(frame)
        blamed = None if item is None else (item.delivery_run.delivery.id, item.entry.key)
        event_key = {} if blamed is None else {"event_key": blamed[1]}
        end_blocked_worker(settings, blamed, **event_key, **fields)

    max_blocked_s = max(_MIN_BLOCKED_S, 2 * settings.handler_timeout_s)
    loop, episodes = asyncio.get_running_loop(), AlertEpisodes(redis)
    stacks = None if trace is None else trace.stacks
    return Watchdog(loop, router, episodes, end_process, max_blocked_s=max_blocked_s, stacks=stacks)


def _exit_unclosed() -> None:
    """Exit without closing: unsettled events run elsewhere once our leases have lapsed."""
    log.warning("shutdown_timed_out")
    exit_process(0)


async def _process_delivery(ctx: dict[str, Any], job: object) -> None:
    """Stand for a function, which arq requires; `run_job` runs the jobs."""
    raise NotImplementedError


def decode_job(payload: bytes) -> dict[str, Any]:
    """Decode a job of any kind as a delivery: arq silently drops a job that it cannot decode or has no function for."""
    try:
        job = decode(payload)
    except UnreadableDelivery:
        job = {}
    if job.get("f") == JOB_NAME and isinstance(job.get("a"), list) and len(job["a"]) == 1:
        return {"t": None, "f": JOB_NAME, "a": job["a"], "k": {}, "et": job.get("et") or 0}
    return {"t": None, "f": JOB_NAME, "a": [unread_argument(payload)], "k": {}, "et": 0}


async def _claim_database(redis: Redis, settings: Settings, outage: RedisOutage) -> None:
    """Check that the Redis database is this deployment's; wait out an outage.

    Raises:
        ConfigurationError: it is another deployment's, or no waiting helps.
    """
    while True:
        try:
            await claim_database(redis, settings)
        except (RedisError, OSError) as error:
            await outage.wait(error, "database check")
            outage.raise_if_unusable()
        else:
            outage.mark_available("database check")
            return


async def _learn_portal(crm: CRM, router: Router, redis: Redis, outage: RedisOutage) -> None:
    """Wait until HubSpot names the portal of the access token, if there is one: until then, no job may be claimed.

    Raises:
        NotAuthorized: HubSpot does not know the token.
        ConfigurationError: Redis, which paces the question, refuses for good.
    """
    if not crm.token_credentials.has_token:
        return
    uses = [Declaration(name.partition(".")[0], route.uses.reads, route.uses.may) for name, route in router]
    failures = 0
    try:
        while (info := await crm.check_token()) is None:
            failures += 1
            if failures == 1:
                log.warning(
                    "token_portal_unknown", advice="HubSpot does not answer; no event is claimed until it does."
                )
            await asyncio.sleep(pause_s(min(failures, 5), random.uniform(0.5, 1.0)))
            outage.raise_if_unusable()  # as a background task has found
        log.info("token_portal", portal_id=info.hub_id, serves=list(crm.token_credentials.portals))
        log_scope_differences(info, uses)
        if info.scopes:
            with suppress(RedisError, OSError):  # the next worker that starts reports them
                await report_scopes(redis, info.hub_id, info.scopes)
    except NotAuthorized:
        with suppress(RedisError, OSError):
            await AlertEpisodes(redis).report_once(Alert.ACCESS_TOKEN_REFUSED)
        raise


def _open_pauses(settings: Settings, redis: Redis, crm: CRM) -> PortalPauses:
    """Return the pauses, which from now on take note of what HubSpot's calls end with."""
    pauses = PortalPauses(redis, crm.accepts_credentials, token=token_fingerprint(settings))
    crm.budget.on_backoff = pauses.record_backoff
    crm.observe_calls(pauses.calls.breaker)
    return pauses
