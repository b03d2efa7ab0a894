"""The tasks of a worker beside its deliveries: leases, archiving, alerts, measurements and periodic jobs."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from types import FrameType
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis

from spokes.audit.alerts.alert_episodes import REPORT_HELD_EVERY_S, AlertEpisodes
from spokes.audit.alerts.alert_webhook import AlertWebhook
from spokes.audit.archiver import Archiver
from spokes.core import clock
from spokes.core.background import Background
from spokes.core.settings import Settings
from spokes.core.telemetry.metric_history import flush_with_history
from spokes.core.telemetry.metric_totals import FLUSH_EVERY_S, MetricTotals
from spokes.portals.directory import REFRESH_EVERY_S as REFRESH_PORTALS_EVERY_S
from spokes.portals.published_profiles import REFRESH_EVERY_S as PROFILES_EVERY_S
from spokes.queue.default_queue import DefaultQueueWatch
from spokes.queue.erased_objects import REFRESH_EVERY_S as ERASED_EVERY_S
from spokes.queue.registration_times import RECORD_EVERY_S, RegistrationTimes
from spokes.queue.running_deliveries import PUBLISH_EVERY_S, publish_running
from spokes.queue.token_reports import REPORT_EVERY_S
from spokes.routing import Router
from workers.crash_trace import CrashTrace
from workers.credentials.refused_token import CHECK_EVERY_S
from workers.delivery.dispatch import running_item
from workers.delivery.missing_credentials import ANNOUNCE_EVERY_S
from workers.delivery.run_delivery import WorkerParts
from workers.initial_samples import start_counters
from workers.lanes.lane_manager import LEASE_MS
from workers.opening import OpenedWorker, learn_portal
from workers.process_globals import ProcessGlobals
from workers.queue.arq_worker import ArqBatchWorker
from workers.queue.claim_gate import MEASURE_EVERY_S as GATE_EVERY_S
from workers.queue.claim_gate import ClaimGate
from workers.queue.lease_thread import LeaseThread
from workers.queue.leases import RENEW_EVERY_S, Lease, LeaseRenewal
from workers.queue.progress import deadline_s, long_running
from workers.upkeep import schedule
from workers.upkeep.blocked_worker import end_blocked_worker
from workers.upkeep.gaps.nightly_reconciliation import NightlyReconciliation
from workers.upkeep.gauges import MEASURE_EVERY_S, update_gauges
from workers.upkeep.left_traces import EXAMINE_EVERY_S, LeftTraces
from workers.upkeep.loop_watchdog import Watchdog
from workers.upkeep.lost_data import MEASURE_EVERY_S as LOST_DATA_EVERY_S
from workers.upkeep.lost_data import LostData

_MIN_BLOCKED_S: Final = 10.0  # until a blocked worker ends itself, even if handlers may run a shorter time


class _Reporters(NamedTuple):
    """What records the worker's own state; each is closed after the tasks that use it."""

    archiver: Archiver
    totals: MetricTotals
    registrations: RegistrationTimes
    renewal: LeaseRenewal


async def start_background_tasks(
    opened: OpenedWorker, worker: ArqBatchWorker, gate: ClaimGate, opening: AsyncExitStack
) -> None:
    """Start all tasks; return when the first event may be claimed. `opening` ends them.

    Raises:
        NotAuthorized: HubSpot does not know the access token.
        ConfigurationError: Redis refuses for good.
    """
    parts, outage = opened.parts, opened.outage
    settings, redis, router = parts.settings, parts.redis, parts.router
    parts.timeouts.process_globals = ProcessGlobals(worker.loop)
    reporters = _open_reporters(opened, worker, opening)
    background = Background(outage, AlertEpisodes(redis).report_once)
    opening.push_async_callback(background.close)
    _start_reports(background, reporters, opened, worker, gate)
    background.start("pauses", partial(opened.pauses.watch, outage, "pauses"))
    background.start("default queue", partial(DefaultQueueWatch(redis).run, outage, "default queue"))
    background.start("archiver", partial(reporters.archiver.run, outage=outage))
    _start_alerts(background, opened)
    _start_upkeep(background, opened)
    traces = LeftTraces(redis, router, settings)
    await traces.examine()  # before their events are claimed again
    background.every(EXAMINE_EVERY_S, "left traces", traces.examine)
    await parts.erased.refresh()  # before the first event is claimed
    background.every(ERASED_EVERY_S, "erased objects", parts.erased.refresh)
    await learn_portal(opened.crm, router, redis, outage)
    _watch_portals(background, opened)
    _start_reconciliation(background, opened)  # it compares no portal that is not known yet
    background.every(ANNOUNCE_EVERY_S, "credentials", parts.missing_credentials.announce)
    background.every(REPORT_EVERY_S, "token reports", parts.refused_token.report)
    background.every(CHECK_EVERY_S, "token check", parts.refused_token.check)


def _open_reporters(opened: OpenedWorker, worker: ArqBatchWorker, opening: AsyncExitStack) -> _Reporters:
    parts = opened.parts
    settings, redis, router = parts.settings, parts.redis, parts.router
    archiver = Archiver.open(settings, redis)
    opening.push_async_callback(archiver.close)
    start_counters(router)
    totals = MetricTotals(redis, "worker")
    opening.push_async_callback(totals.close)
    registrations = RegistrationTimes(redis, router)
    opening.push_async_callback(registrations.close)
    opening.enter_context(_watchdog(settings, router, redis, opened.trace))
    renewal = LeaseRenewal(redis, partial(_leases, worker, parts), LEASE_MS, parts.lease_renewed)
    opening.enter_context(LeaseThread(settings, renewal))
    return _Reporters(archiver, totals, registrations, renewal)


def _start_reports(
    background: Background, reporters: _Reporters, opened: OpenedWorker, worker: ArqBatchWorker, gate: ClaimGate
) -> None:
    redis = opened.parts.redis
    background.every(RENEW_EVERY_S, "leases", reporters.renewal.renew)
    background.every(GATE_EVERY_S, "claim gate", gate.measure)
    lost_data = LostData(redis, opened.parts.settings, lambda: list(worker.started_at))
    background.every(LOST_DATA_EVERY_S, "lost data", lost_data.measure)
    background.every(FLUSH_EVERY_S, "metric totals", partial(flush_with_history, redis, reporters.totals))
    background.every(RECORD_EVERY_S, "registrations", reporters.registrations.record)
    background.every(PUBLISH_EVERY_S, "running deliveries", partial(_publish_progress, worker, opened.parts))
    background.every(MEASURE_EVERY_S, "gauges", partial(update_gauges, redis, opened.crm.budget))


def _watch_portals(background: Background, opened: OpenedWorker) -> None:
    async def read_profiles() -> None:
        await opened.parts.profiles.refresh()

    background.every(PROFILES_EVERY_S, "portal settings", read_profiles)
    if opened.directory is not None:
        background.every(REFRESH_PORTALS_EVERY_S, "portals", opened.directory.refresh)


def _leases(worker: ArqBatchWorker, parts: WorkerParts) -> list[Lease]:
    return [*worker.leases(), *parts.leases()]


async def _publish_progress(worker: ArqBatchWorker, parts: WorkerParts) -> None:
    overdue_s = deadline_s(max(parts.settings.handler_timeout_s, parts.router.longest_timeout_s))
    handlers = parts.timeouts.running_handlers()
    runs = long_running(worker.started_at, handlers, worker.holder, clock.now_ms(), overdue_s)
    await publish_running(parts.redis, worker.holder, runs)


def _start_upkeep(background: Background, opened: OpenedWorker) -> None:
    parts, outage = opened.parts, opened.outage
    settings, redis = parts.settings, parts.redis
    periodic = partial(schedule.run_schedule, settings, redis, opened.crm, outage, "periodic jobs")
    background.start("periodic jobs", periodic)


def _start_reconciliation(background: Background, opened: OpenedWorker) -> None:
    parts, outage = opened.parts, opened.outage
    if parts.settings.nightly_reconciliation:
        nightly = NightlyReconciliation(parts.settings, parts.redis, opened.crm, parts.router)
        background.start("reconciliation", partial(nightly.run, outage, "reconciliation"))


def _start_alerts(background: Background, opened: OpenedWorker) -> None:
    settings, redis = opened.parts.settings, opened.parts.redis
    background.every(REPORT_HELD_EVERY_S, "held alerts", AlertEpisodes(redis).report_held)
    background.start("alert webhook", partial(AlertWebhook(settings, redis).run, opened.outage, "alert webhook"))


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
