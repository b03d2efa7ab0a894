"""Decide whether a handler is called, call it, and turn its result or error into a resolution."""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from types import FrameType, MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.audit.alerts.background_alerts import BackgroundAlerts
from spokes.audit.object_hashes import object_hash_key
from spokes.core.clock import now_ms
from spokes.core.errors import NotAuthorized, ObjectNotFound
from spokes.core.events import Event
from spokes.core.masking import Mask, derive_key
from spokes.core.master_key import load_master_key
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.core.telemetry.error_places import class_name
from spokes.core.telemetry.metrics import UNPROVEN_PAIRS
from spokes.core.telemetry.setup import report_error
from spokes.queue.pauses.portal_pauses import PortalPauses
from spokes.queue.quarantine import Quarantine
from spokes.routing import Route, Router
from spokes.tools import Tools
from workers.credentials.refused_token import RefusedToken
from workers.delivery import settlement_steps as steps
from workers.delivery.current_value import EventCurrentValue
from workers.delivery.delivery_run import postpone
from workers.delivery.handler_tools import RunTools, ToolParts
from workers.delivery.log_context import log_as_part_of
from workers.delivery.rewrite_loops import RewriteLoopDetector, is_automated
from workers.delivery.settlement import RunMetrics
from workers.handlers.entries import route_of
from workers.handlers.limits import HandlerLimits
from workers.handlers.portals import HandlerPortals
from workers.http.session import HttpSession
from workers.lanes import lanes
from workers.lanes.handler_failure import read_failure
from workers.lanes.handler_timeouts import HandlerTimeout, HandlerTimeouts, absorb_cancellations
from workers.lanes.lanes import HandlerCall, Lane, WorkItem, known_resolution
from workers.lanes.merge_map import MergeMap
from workers.lanes.resolution import (
    COALESCED,
    ECHO,
    HANDLER_OFF,
    HANDLER_PAUSED,
    HELD_S,
    INTERNAL_ERROR,
    LEASE_LOST,
    MERGED_AWAY,
    NO_HANDLER,
    PAUSED_RETRY_S,
    PROCESSED,
    REWRITE_LOOP,
    SUPERSEDED,
    TOKEN_REFUSED,
    UNKNOWN_HANDLER,
    Resolution,
    behind,
    free_run_limit,
    held_for,
    limited_for,
    parked_for,
    record_age_s,
    resolution_for_error,
    resolution_for_internal_error,
    retried_after_refusal,
)
from workers.protected_process import ProcessCallRefused
from workers.queue.retry_delays import further_delays_s, is_server_failure

if TYPE_CHECKING:
    from spokes.crm.services import CRM, WriteRecord
    from spokes.queue.pauses.call_pauses import CallPause

_PORTAL_PAUSED: Final = parked_for("portal_paused", PAUSED_RETRY_S)
log = structlog.get_logger()


class CallResult(NamedTuple):
    """The result of one handler call.

    Attributes:
        resolution: of the event that the handler was called for.
        handler: its name, or "" if no handler is registered.
        writes: its writes in HubSpot.
        applied: by ordering key, the time of the newest change applied.
        blocks_later_calls: if this item is retried, the resolution of later ones that must not overtake it.
    """

    resolution: Resolution
    handler: str = ""
    writes: "Sequence[WriteRecord]" = ()
    applied: Mapping[str, int] = MappingProxyType({})
    blocks_later_calls: Resolution | None = None


class Dispatcher:
    """Calls the handlers of one worker process."""

    def __init__(
        self,
        settings: Settings,
        redis: Redis,
        router: Router,
        crm: "CRM",
        pauses: PortalPauses,
        *,
        refused_token: RefusedToken,
        merge_map: MergeMap,
        metrics: RunMetrics,
        timeouts: HandlerTimeouts,
        http: HttpSession,
        alerts: BackgroundAlerts,
        portals: HandlerPortals,
    ) -> None:
        self._portals = portals
        self._settings = settings
        self._redis = redis
        self._router = router
        self._crm = crm
        self._pauses = pauses
        self._refused_token = refused_token
        self._merge_map = merge_map
        self._metrics = metrics
        master_key = load_master_key(settings)
        self._tool_parts = ToolParts(
            crm, redis, Quarantine.from_settings(redis, settings), object_hash_key(master_key), http,
            pauses.calls.breaker, portals,
        )  # fmt: skip
        self._rewrite_loops = RewriteLoopDetector(redis, derive_key(master_key, "rounds"))
        self._rng = random.Random()
        self._timeouts = timeouts
        self._limits = HandlerLimits(redis)
        self._mask = Mask(settings.secret_values)
        self._alerts = alerts

    def plan(self, items: list[WorkItem], lane: Lane) -> list[HandlerCall]:
        """Return the handler calls for the items of a lane."""
        return lanes.plan_calls(items, lane.newest_applied, self._handles_each_event)

    def handler_name(self, event: Event) -> str:
        """Return the name of the handler of an event, empty if none is registered."""
        route = self._router.match(event)
        return route.name if route else ""

    def echo_keys(self, event: Event) -> tuple[str, ...]:
        """Return the own-write ledger's keys for the event, none if its value is withheld and cannot be compared."""
        name = event.property_name
        if event.kind != "propertyChange" or name is None:
            return ()
        value = event.property_value
        if value is None and event.is_sensitive:
            return ()
        made_by_us = event.change_source == "INTEGRATION" and event.source_id == str(event.app_id)
        return self._crm.own_writes.keys_for_change(
            event.portal_id,
            event.object_type,
            event.object_id,
            name,
            value or "",
            made_by_us=made_by_us,
            made_by_other=event.change_source not in {None, "INTEGRATION", "API"},
        )

    async def dispatch(self, call: HandlerCall, lane: Lane, redis_time_ms: int) -> CallResult:
        """Call the handler unless the event is resolved without it; never raises, except when cancelled.

        Args:
            call: one of those that `plan` returned.
            lane: the lane of the call's object, which we hold.
            redis_time_ms: what happened at HubSpot before, in epoch ms by Redis' clock, is in what the handler reads.
        """
        item = call.item
        event = item.event
        if (event.intake == "journal" or call.coalesced) and (pairs := lanes.unproven_pairs(call, lane.newest_applied)):
            UNPROVEN_PAIRS.inc(pairs)
        route = route_of(item, self._router)
        handler = route.name if route else item.handler
        writes: list[WriteRecord] = []
        as_received = item.entry.event if item.merged_from else event
        applied_at = lanes.newest_applied_by_any(item, lane) if lane.newest_applied else 0
        current_value = EventCurrentValue(self._crm.own_writes, event, as_received, applied_at=applied_at)
        resolution = await self._resolve(call, lane, route, writes, current_value)
        if writes and route is not None and resolution is PROCESSED:
            with suppress(RedisError, OSError):  # without the record, a rewrite loop goes one more round
                await self._rewrite_loops.record_writes(event, route.name, writes, is_shared=bool(item.handler))
        if resolution.delay_s is not None:
            return CallResult(resolution, handler, writes, blocks_later_calls=behind(resolution))
        if resolution is SUPERSEDED and (name := item.ordering_key):
            # The run that applied the newer change may have lost its lease before it could settle.
            return CallResult(resolution, handler, writes, {name: lane.newest_applied[name]})
        if not writes and item.ordering_key is None:
            return CallResult(resolution, handler)
        used_event_value = current_value.used_event_value
        applied = steps.applied_timestamps(item, resolution, writes, redis_time_ms, used_event_value=used_event_value)
        return CallResult(resolution, handler, writes, applied)

    async def _resolve(
        self,
        call: HandlerCall,
        lane: Lane,
        route: Route | None,
        writes: "list[WriteRecord]",
        current_value: EventCurrentValue,
    ) -> Resolution:
        """Return the resolution of a call in every case: an unresolved item would keep its delivery open for ever."""
        item, event = call.item, call.item.event
        try:
            resolution = self._known_resolution(item, lane, route)
            if resolution is ECHO:
                await self._rewrite_loops.on_echo(event, route)
            elif resolution is None and route is not None:
                pauses = self._pauses.calls.holding(event.portal_id, route, event.object_type)
                if pauses or is_automated(event):
                    resolution = await self._hold(item, pauses)
            if resolution is not None or route is None:
                return resolution or _without_handler(item)
            call_handler = self._call_limited if route.uses.is_limited else self._call_handler
            return await call_handler(call, lane, route, writes, current_value)
        except asyncio.CancelledError:
            if self._timeouts.is_closing:
                raise
            await absorb_cancellations(self._timeouts)  # of a timer that an earlier handler left
            return parked_for("interrupted", 0.0)
        except Exception as error:  # noqa: BLE001 - an error of ours, not the handler's; mostly a Redis outage
            return resolve_internal_error(item, error, self._alerts)
        finally:
            if probed := item.probed_calls:
                item.probed_calls = None
                with suppress(RedisError, OSError):  # another event probes when this one counts as lost
                    await self._pauses.calls.end_probe(probed)

    def _known_resolution(self, item: WorkItem, lane: Lane, route: Route | None) -> Resolution | None:
        """Return the resolution of an event that follows from what this process knows, or None."""
        portal_id = item.event.portal_id
        if time.monotonic() > lane.lease_until:
            return LEASE_LOST
        if (resolution := known_resolution(item, lane)) or route is None:
            return resolution
        if portal_id in self._portals.profiles.restricted and self._portals.is_off(item.event, route.name):
            return HANDLER_OFF
        if self._pauses.is_paused(portal_id):
            return _PORTAL_PAUSED
        token = self._crm.token_credentials
        if token.is_refused and portal_id in token.token_portals:
            return TOKEN_REFUSED
        return None

    async def _hold(self, item: WorkItem, pauses: "Sequence[CallPause]") -> Resolution | None:
        """Return the resolution of an event whose handler or calls are paused, or that is part of a loop; or None.

        None also if the event is the probe of the paused calls.
        """
        if paused_handler := next((pause for pause in pauses if pause.handler), None):
            return held_for(paused_handler.kind, HANDLER_PAUSED)
        if pauses:
            item.probed_calls = await self._pauses.calls.begin_probe(pauses, item.delivery_run.delivery.id)
            if item.probed_calls is None:
                return held_for(pauses[0].calls.kind)
        return REWRITE_LOOP if await self._rewrite_loops.is_loop(item.event, item.handler) else None

    async def _call_limited(
        self, call: HandlerCall, lane: Lane, route: Route, writes: "list[WriteRecord]", current_value: EventCurrentValue
    ) -> Resolution:
        """Call a handler whose runs are limited, unless it has to wait for others."""
        if wait_s := await self._limits.start(route, lane):
            return limited_for(wait_s)
        started = time.perf_counter()
        try:
            return await self._call_handler(call, lane, route, writes, current_value)
        finally:
            with suppress(RedisError, OSError):  # the run then counts until its lane is released
                await self._limits.end(route, lane, time.perf_counter() - started)

    async def _call_handler(
        self, call: HandlerCall, lane: Lane, route: Route, writes: "list[WriteRecord]", current_value: EventCurrentValue
    ) -> Resolution:
        item, event = call.item, call.item.event
        attempt = item.entry.attempt + 1
        timeout = HandlerTimeout(self._timeouts, lane, route.name, writes, timeout_s=route.uses.limits.timeout_s)
        source = RunTools(self._tool_parts, call, route, lane=lane, timeout=timeout, writes=writes)
        tools = Tools(source, current_value, attempt, len(call.coalesced))
        log_as_part_of(item.delivery_run.delivery)
        started = time.perf_counter()
        try:
            try:
                with timeout:
                    await route.function(event, tools)
            finally:
                self._metrics.handler_ran(route.name, time.perf_counter() - started)
        except BaseException as error:
            # Before anything is awaited: another handler's call may raise the same exception of a shared batch.
            package = route.function.__module__.partition(".")[0]
            failure = read_failure(error, route.uses.retry_on, package, self._mask)
            if timeout.ends_run(error):
                raise
            if timeout.task.cancelling():
                await absorb_cancellations(self._timeouts)
            return await self._resolve_error(item, attempt, failure.error, route, failure.fields)
        if timeout.task.cancelling():
            await absorb_cancellations(self._timeouts)
        return PROCESSED

    async def _resolve_error(
        self, item: WorkItem, attempt: int, error: BaseException, route: Route, failure: dict[str, object]
    ) -> Resolution:
        event = item.event
        if isinstance(error, ObjectNotFound) and await self._merge_map.surviving_id(event) != event.survivor_id:
            return MERGED_AWAY
        limit, free_runs = free_run_limit(error), item.entry.free_runs
        is_left_to_others = is_call_refused = False
        if not limit or free_runs < limit:  # otherwise earlier pauses did not help this event
            if isinstance(error, NotAuthorized):
                is_call_refused = await self._refused_token.is_call_refused(event.portal_id)
                is_left_to_others = not is_call_refused and await self._refused_token.stop(event.portal_id)
            if not (is_call_refused or is_left_to_others):
                await self._pauses.record_error(event.portal_id, error, route.name, event.survivor_id)
        at_ms, declared_s = now_ms(), route.uses.limits.retries
        schedule_s = self._settings.retry_schedule_s if declared_s is None else declared_s
        if is_server_failure(error) and not item.entry.failing_since:
            item.entry = item.entry._replace(failing_since=at_ms)
        failing_s = (at_ms - item.entry.failing_since) / 1000 if item.entry.failing_since else 0.0
        further_s = further_delays_s(schedule_s, failing_s=failing_s, outage_s=self._settings.outage_retry_hours * 3600)
        resolution = resolution_for_error(
            attempt, error, free_runs=free_runs, age_s=record_age_s(event, at_ms), schedule_s=schedule_s,
            has_credentials=event.portal_id in self._crm.credentials.portals, further_s=further_s, rng=self._rng,
            retry_on=route.uses.retry_on, failure=failure,
        )  # fmt: skip
        if is_left_to_others:
            resolution = replace(resolution, delay_s=TOKEN_REFUSED.delay_s)
        elif is_call_refused:
            resolution = retried_after_refusal(resolution, free_runs)
        elif not resolution.is_final and (pause := self._pauses.calls.pause_of(event.portal_id, error)):
            resolution = replace(resolution, delay_s=HELD_S, waits_for_calls=pause.calls.kind)
        if resolution.is_final:
            fields = {"handler": route.name, "reason": resolution.reason, **failure}
            log.warning("handler_failed", event_key=item.entry.event_key, type=event.type, attempt=attempt, **fields)
            report_error(error, **fields)
            if isinstance(error, ProcessCallRefused):
                where = {"event_key": item.entry.event_key, "call": error.call}
                self._alerts.report(Alert.PROCESS_CALL_REFUSED, handler=route.name, **where)
            if limit:
                where = {"portal_id": event.portal_id, "handler": route.name, "reason": resolution.reason}
                self._alerts.report(Alert.WAITING_DID_NOT_HELP, **where)
        return resolution

    def _handles_each_event(self, item: WorkItem) -> bool:
        route = route_of(item, self._router)
        return route is not None and route.uses.each_event


def running_item(frame: FrameType | None) -> WorkItem | None:
    """Return the event whose handler runs in the stack that ends with `frame`, or None."""
    while frame is not None:
        if frame.f_code is Dispatcher._call_handler.__code__:  # noqa: SLF001 - it is ours
            item = frame.f_locals.get("item")
            return item if isinstance(item, WorkItem) else None
        frame = frame.f_back
    return None


def resolve_call(call: HandlerCall, result: CallResult) -> None:
    """Resolve the item of a call and those coalesced into it, each in the run of its own delivery."""
    blocked = result.blocks_later_calls
    if blocked is None:
        for item in call.coalesced:
            item.delivery_run.resolve(item, COALESCED, result.handler)
    call.item.delivery_run.resolve(call.item, result.resolution, result.handler, result.writes, result.applied)
    if blocked is not None:
        postpone(call.coalesced, blocked)


def resolve_internal_error(item: WorkItem, error: BaseException, alerts: BackgroundAlerts) -> Resolution:
    """Log an error of our own while an event was processed, and return the event's resolution."""
    resolution = resolution_for_internal_error(item.entry.attempt + 1, error)
    if resolution.reason == INTERNAL_ERROR:
        log.error(INTERNAL_ERROR, event_key=item.entry.event_key, handler=item.handler, exc_info=error)
        report_error(error, event_key=item.entry.event_key)
    if resolution.is_final:
        portal_id = item.delivery_run.delivery.portal_id
        alerts.report(Alert.INTERNAL_ERROR, portal_id=portal_id, error=class_name(error))
    return resolution


def _without_handler(item: WorkItem) -> Resolution:
    return UNKNOWN_HANDLER if item.handler else NO_HANDLER
