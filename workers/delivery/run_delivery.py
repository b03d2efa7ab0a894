"""Run one delivery: from its payload in the queue to its last settled event.

An event is settled in the transaction that records its outcome. Unsettled events stay queued and run again.
"""

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Self

import structlog
from redis.asyncio import Redis

from spokes.audit.alerts.background_alerts import BackgroundAlerts
from spokes.audit.object_hashes import object_hash_key
from spokes.audit.records import Outcome
from spokes.core.delivery import Delivery
from spokes.core.errors import UnreadableDelivery
from spokes.core.master_key import load_master_key
from spokes.core.priority import PRIORITIES, Priority
from spokes.core.redis.outage import RedisOutage
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.core.telemetry.secret_ages import token_fingerprint
from spokes.core.telemetry.sentry import record_span
from spokes.core.telemetry.setup import log_canonical_line, report_error, writes_canonical_lines
from spokes.portals.directory import PortalDirectory
from spokes.portals.published_profiles import PublishedProfiles
from spokes.queue.erased_objects import ErasedObjects
from spokes.queue.pauses.portal_pauses import PortalPauses
from spokes.queue.quarantine import Quarantine
from spokes.queue.unreadable_jobs import quarantine_job
from spokes.routing import Router
from workers.crash_trace import CrashTrace
from workers.credentials.refused_token import RefusedToken
from workers.delivery.delivery_run import DeliveryRun, postpone
from workers.delivery.dispatch import CallResult, Dispatcher, resolve_call, resolve_internal_error
from workers.delivery.failed_deliveries import MAX_TRIES, set_unreadable_aside, settle_failed_delivery
from workers.delivery.missing_credentials import MissingCredentials, is_uninstall
from workers.delivery.settlement import Settlement
from workers.handlers.portals import HandlerPortals
from workers.http.session import HttpSession
from workers.lanes.handler_timeouts import HandlerTimeout, HandlerTimeouts, absorb_cancellations
from workers.lanes.lane_manager import LaneManager
from workers.lanes.lane_pool import LanePool, ReadyLanes
from workers.lanes.lanes import HandlerCall, Lane, WorkItem, blocking_key
from workers.lanes.merge_map import MergeMap
from workers.lanes.resolution import ERASED, HANDLER_STUCK, WORKER_DIED, Resolution, parked_for
from workers.queue.claimed_job import ClaimedJob, DeliveryEnd
from workers.queue.crash_loops import SUSPECT_FROM_TRY, CrashLoopGuard, settled_keys
from workers.queue.leases import Lease
from workers.queue.room import Room, room_left

if TYPE_CHECKING:
    from spokes.crm.services import CRM

PREFETCH_FACTOR: Final = 4  # claimed events per running one: while Redis claims or settles some, others run
_BUSY_WAITS_S: Final = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)  # between attempts to acquire lanes that other workers hold
log = structlog.get_logger()
_OBJECT_BUSY: Final = parked_for("object_busy", 2.0)


async def run_delivery(claimed: ClaimedJob, parts: "WorkerParts") -> DeliveryEnd:
    """Run one delivery. Events that cannot be settled now move into later deliveries."""
    try:
        delivery = Delivery.from_job(claimed.argument)
    except UnreadableDelivery:
        await quarantine_job(parts.redis, parts.quarantine, claimed.id, claimed.argument)
        return DeliveryEnd.UNREADABLE
    try:
        run = DeliveryRun(delivery, parts.settlement, parts.settings, parts.router)
    except UnreadableDelivery:
        readable = await set_unreadable_aside(parts.redis, parts.quarantine, delivery)
        if not readable.entries:
            return DeliveryEnd.UNREADABLE
        run = DeliveryRun(readable, parts.settlement, parts.settings, parts.router)
    run.failed_tries = claimed.attempt - 1
    if parts.missing_credentials.concern(delivery.portal_id) and not is_uninstall(run):
        return await parts.missing_credentials.set_aside(run)
    if claimed.attempt < SUSPECT_FROM_TRY or not run.items:
        is_closed = await _run_events(run, claimed, parts)
    elif len(run.items) == 1:
        handler = parts.dispatcher.handler_name(run.items[0].event)
        async with parts.crash_loops.isolate(run.delivery, handler) as isolated:
            run.crash_loop = isolated.is_crash_loop
            if isolated.wait_s:
                settled = await settled_keys(parts.redis, delivery)
                run.resolve_unsettled(settled, parked_for(WORKER_DIED.reason, isolated.wait_s))
                is_closed = await run.finished()
            else:
                is_closed = await _run_events(run, claimed, parts)
            isolated.has_survived = Outcome.PARKED not in run.outcomes
    else:  # one of these events may kill its worker: each runs again in a delivery of its own
        run.split(await settled_keys(parts.redis, delivery), claimed.attempt)
        is_closed = await run.finished()
    return DeliveryEnd.CLOSED if is_closed else DeliveryEnd.HELD_ELSEWHERE


async def _run_events(run: DeliveryRun, claimed: ClaimedJob, parts: "WorkerParts") -> bool:
    """Run the events of a delivery; return whether it was closed."""
    started = time.perf_counter()
    events = len(run.items)
    parts.claimed_events[claimed.priority] += events
    try:
        if parts.erased.hashes:
            for item in run.items:
                if parts.erased.concern(item.event):
                    run.resolve(item, ERASED)
        if merges := [item.event for item in run.items if item.event.kind == "merge" and not item.is_resolved]:
            await parts.merge_map.record(merges)
        await acquire_lanes(run, parts)
        is_closed = await run.finished()  # the items are resolved by work_lane, in tasks of the lane pool
    finally:
        parts.claimed_events[claimed.priority] -= events
    _log(run, claimed, events, time.perf_counter() - started)
    return is_closed


async def acquire_lanes(run: DeliveryRun, parts: "WorkerParts") -> None:
    """Put every item of a run into its object's lane; postpone those whose lane other workers keep holding."""
    waiting = [item for item in run.items if not item.is_resolved]
    for item in waiting:
        is_run_again = item.handler and item.entry.attempt  # the writes of its handler do not make the event an echo
        if item.event.kind == "propertyChange" and not is_run_again:
            item.echo_keys = parts.dispatcher.echo_keys(item.event)
    for wait_s in _BUSY_WAITS_S if waiting else ():
        waiting = await parts.lanes.acquire(run, waiting)
        if waiting and any(item.merged_from for item in waiting):  # their lane is the surviving record's now
            waiting = await parts.lanes.acquire(run, waiting)
        if not waiting:
            return
        await asyncio.sleep(wait_s)
    postpone(parts.lanes.cancel_waiting(waiting), _OBJECT_BUSY)


async def work_lane(lane: Lane, parts: "WorkerParts") -> None:
    """Run the items of a lane, including those that enter it during the run; then release it.

    Behind an event that is retried, or waits for a limit of its handler, only later changes of the same property wait.
    Behind one that is parked, all wait: what parked it (a pause, an outage, a lost lease) holds for them too.

    Raises:
        RunGivenUp: `WorkerParts.give_up` has handed the lane over.
    """
    try:
        while lane.items:
            items, lane.items = lane.items, []
            if len(items) == 1:  # as a rule
                lane.calls = [HandlerCall(items[0])]
            else:
                lane.calls = _plan(items, lane, parts)
                lane.calls.reverse()
            blocked: dict[str, Resolution] = {}  # by what waits, see blocking_key
            while lane.calls:
                call = lane.call = lane.calls.pop()
                try:
                    if blocked and (behind := blocked.get("") or blocked.get(blocking_key(call.item))):
                        postpone((*call.coalesced, call.item), behind)
                        continue
                    result = await parts.dispatcher.dispatch(call, lane, parts.lanes.redis_time_ms)
                    if result.applied:
                        lane.advance(result.applied)
                    resolve_call(call, result)
                    if result.blocks_later_calls is not None:
                        key = "" if result.resolution.blocks_object else blocking_key(call.item)
                        blocked[key] = result.blocks_later_calls
                except asyncio.CancelledError as error:
                    if parts.timeouts.is_closing:
                        raise
                    await absorb_cancellations(parts.timeouts)  # of a timer that an earlier handler left
                    fail_call(call, error, parts.alerts)
                except Exception as error:  # noqa: BLE001 - a bug of ours must not keep other events from running
                    fail_call(call, error, parts.alerts)
    finally:
        if parts.lanes.held.get(lane.key) is lane:  # otherwise it was handed over
            del parts.lanes.held[lane.key]
            parts.settlement.release_lane(lane)  # after the steps above: see lanes_being_released


def _plan(items: list[WorkItem], lane: Lane, parts: "WorkerParts") -> list[HandlerCall]:
    """Return the handler calls for the items of a lane; after an error of ours, one call for each item."""
    try:
        return parts.dispatcher.plan(items, lane)
    except Exception as error:
        log.exception("lane_not_planned", items=len(items))
        report_error(error)
        return [HandlerCall(item) for item in items]


def fail_call(call: HandlerCall, error: BaseException, alerts: BackgroundAlerts) -> None:
    """Resolve the events of a call after an error of our own."""
    for item in (*call.coalesced, call.item):
        fail_item(item, error, alerts=alerts)


def fail_item(item: WorkItem, error: BaseException, *, alerts: BackgroundAlerts) -> None:
    """Resolve one event after an error of our own; a run that cannot resolve its event fails as a whole."""
    try:
        item.delivery_run.resolve(item, resolve_internal_error(item, error, alerts))
    except Exception as failure:  # noqa: BLE001 - it reaches whoever runs the delivery
        item.delivery_run.fail(failure)


def _open_portals(settings: Settings, router: Router, profiles: PublishedProfiles, crm: "CRM") -> HandlerPortals:
    """Return what handlers may know of portals; the CRM reads phone numbers in their regions."""
    portals = HandlerPortals(settings, router, profiles)
    crm.use_regions(portals.region)
    return portals


def _open_refused_token(
    settings: Settings, redis: Redis, crm: "CRM", pauses: PortalPauses, holder: str
) -> RefusedToken:
    """Return what stops this worker's work for a portal, or pauses the portal, while HubSpot refuses the token."""
    return RefusedToken(
        redis,
        crm.token_credentials,
        pauses,
        crm.check_token,
        fingerprint=token_fingerprint(settings),
        worker=holder,
    )


def _start_lanes(parts: "WorkerParts", ready: ReadyLanes, crm: "CRM") -> None:
    """Run lanes until `close`; more tasks may start whenever inputs of batches are on their way to HubSpot."""
    crm.call_when_inputs_are_sent(lambda: ready.put(()))
    parts.lane_pool.start(partial(work_lane, parts=parts))


@dataclass(slots=True)
class WorkerParts:
    """Everything that running deliveries needs, made once per worker process."""

    settings: Settings
    redis: Redis
    router: Router
    settlement: Settlement
    merge_map: MergeMap
    dispatcher: Dispatcher
    lanes: LaneManager
    lane_pool: LanePool
    crash_loops: CrashLoopGuard
    missing_credentials: MissingCredentials
    refused_token: RefusedToken
    erased: ErasedObjects
    quarantine: Quarantine
    timeouts: HandlerTimeouts
    http: HttpSession
    alerts: BackgroundAlerts
    profiles: PublishedProfiles
    claimed_events: dict[Priority, int] = field(default_factory=lambda: dict.fromkeys(PRIORITIES, 0))  # of running jobs

    @classmethod
    def start(
        cls, settings: Settings, redis: Redis, router: Router, crm: "CRM", pauses: PortalPauses, *, holder: str,
        outage: RedisOutage, trace: CrashTrace | None = None, directory: PortalDirectory | None = None,
        profiles: PublishedProfiles | None = None,
    ) -> Self:  # fmt: skip
        """Make the parts, and run lanes until `close`; `holder` is our name, which no other process has."""
        ready = ReadyLanes()
        http = HttpSession(redis, router)
        merge_map = MergeMap(redis)
        settlement = Settlement(redis, holder, outage)
        alerts = BackgroundAlerts(redis)
        profiles = profiles or PublishedProfiles(redis)
        portals = _open_portals(settings, router, profiles, crm)
        timeouts = HandlerTimeouts(settings.handler_timeout_s, lambda timeout: parts.give_up(timeout), trace)  # noqa: PLW0108 - `parts` is assigned below
        refused_token = _open_refused_token(settings, redis, crm, pauses, holder)
        parts = cls(
            settings=settings,
            redis=redis,
            router=router,
            settlement=settlement,
            merge_map=merge_map,
            dispatcher=Dispatcher(
                settings,
                redis,
                router,
                crm,
                pauses,
                refused_token=refused_token,
                merge_map=merge_map,
                metrics=settlement.metrics,
                timeouts=timeouts,
                http=http,
                alerts=alerts,
                portals=portals,
            ),
            lanes=LaneManager(redis, holder, outage, ready, partial(fail_item, alerts=alerts)),
            lane_pool=LanePool(ready, max_tasks=settings.max_objects, awaited=lambda: crm.inputs_awaited),
            crash_loops=CrashLoopGuard(redis),
            missing_credentials=MissingCredentials(redis, crm.credentials, refused_token, directory),
            refused_token=refused_token,
            erased=ErasedObjects(redis, object_hash_key(load_master_key(settings))),
            quarantine=Quarantine.from_settings(redis, settings),
            timeouts=timeouts,
            http=http,
            alerts=alerts,
            profiles=profiles,
        )
        _start_lanes(parts, ready, crm)
        return parts

    def leases(self) -> list[Lease]:
        """Return the leases of the lanes we hold, those being released included."""
        lanes = (*self.lanes.held.values(), *self.settlement.lanes_being_released())
        return [Lease(lane.key, lane.token) for lane in lanes]

    def lease_renewed(self, lease: Lease, until: float) -> None:
        """Extend the lane whose lease was renewed until then, in seconds of the monotonic clock."""
        if (lane := self.lanes.held.get(lease.key)) and lane.token == lease.value:
            lane.lease_until = until

    def free_capacity(self) -> Room:
        """Return how many more events to claim: enough to stay busy, few enough that other workers get some."""
        limit = PREFETCH_FACTOR * self.settings.max_objects + self.lane_pool.extra_tasks
        return room_left(limit, self.claimed_events)

    def give_up(self, timeout: HandlerTimeout) -> None:
        """Resolve the event of a handler that swallows its cancellation; another task continues with its lane.

        The handler's task cannot be ended. It may write nothing more to the object, and does nothing after it.
        """
        lane, call = timeout.lane, timeout.lane.call
        successor = self.lanes.held[lane.key] = lane.hand_over()
        if call is not None:
            try:
                resolve_call(call, CallResult(HANDLER_STUCK, timeout.handler, timeout.writes))
            except Exception as error:  # noqa: BLE001 - as in work_lane
                fail_call(call, error, self.alerts)
        self.lane_pool.give_up(timeout.task)
        self.lanes.put_ready(successor)
        self.alerts.report(Alert.HANDLER_STUCK, handler=timeout.handler)

    async def settle_failed(self, claimed: ClaimedJob, error: Exception) -> DeliveryEnd | None:
        """End a job that has failed `MAX_TRIES` times by an error of ours; None if it has not."""
        if claimed.attempt < MAX_TRIES:
            return None
        days = self.settings.dead_letter_days
        return await settle_failed_delivery(
            claimed,
            error,
            redis=self.redis,
            quarantine=self.quarantine,
            settlement=self.settlement,
            router=self.router,
            dead_letter_days=days,
        )

    async def close(self) -> None:
        """Stop running lanes and settle what is resolved; unsettled events run again elsewhere."""
        self.timeouts.is_closing = True
        await self.lane_pool.close()
        await self.http.close()
        await self.alerts.close()
        await self.settlement.close()


def _log(run: DeliveryRun, claimed: ClaimedJob, events: int, seconds: float) -> None:
    record_span("delivery", "process_delivery", seconds)
    if not writes_canonical_lines():
        return
    delivery = run.delivery
    fields = {
        "delivery_id": delivery.id, "portal_id": delivery.portal_id, "events": events, "job_try": claimed.attempt,
    }  # fmt: skip
    outcomes = {outcome.value: count for outcome, count in run.outcomes.items()}
    log_canonical_line("delivery", {**fields, **outcomes, "ms": round(seconds * 1000, 1)})
