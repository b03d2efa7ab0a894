"""Take a turn: decide whether the handler is to run, run it, settle what the turn stands for.

Rule: handlers see events and tools; whatever they raise ends in a verdict.
"""

import random
import time
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.core.errors import ObjectNotFound
from spokes.core.events import Event
from spokes.core.masking import derive_key
from spokes.core.settings import Settings
from spokes.core.telemetry.setup import report_error
from spokes.privacy.redis_purge import purge_object
from spokes.queue.portal_pauses import PortalPauses
from spokes.routing import Route, Router
from spokes.tools import Tools
from workers.delivery import lanes
from workers.delivery import settlement_steps as steps
from workers.delivery.current_value import EventCurrentValue
from workers.delivery.handler_services import services_for
from workers.delivery.handler_timeouts import HandlerTimeouts
from workers.delivery.lanes import HandlerCall, Lane, WorkItem
from workers.delivery.merge_map import MergeMap
from workers.delivery.once import OnceGuard
from workers.delivery.resolution import (
    COALESCED,
    CRASH_LOOP,
    ECHO,
    LEASE_LOST,
    MERGED,
    MERGED_AWAY,
    NO_HANDLER,
    PAUSED_RETRY_S,
    PROCESSED,
    REWRITE_LOOP,
    SUPERSEDED,
    Resolution,
    parked_for,
    resolution_for_error,
)
from workers.delivery.rewrite_loops import RewriteLoopDetector

if TYPE_CHECKING:
    from spokes.crm.services import CRM, WriteRecord

_PORTAL_PAUSED: Final = parked_for("portal_paused", PAUSED_RETRY_S)
_LOGGED_DELIVERY_ID: Final = ContextVar("bound_delivery_id", default="")  # what the log context of this task names


class Dispatcher:
    """Takes the turns of one worker process."""

    def __init__(
        self, settings: Settings, redis: Redis, router: Router, crm: "CRM", pauses: PortalPauses, *, merge_map: MergeMap
    ) -> None:
        self._settings = settings
        self._redis = redis
        self._router = router
        self._crm = crm
        self._pauses = pauses
        self._merge_map = merge_map
        self._rewrite_loops = RewriteLoopDetector(redis, derive_key(settings.master_key(), "rounds"))
        self._rng = random.Random()
        self._timeouts = HandlerTimeouts(settings.handler_timeout_s)

    def plan(self, items: list[WorkItem], lane: Lane) -> list[HandlerCall]:
        """Return in which turns a lane's works are run."""
        return lanes.plan_calls(items, lane.newest_applied, self._handles_each_event)

    def echo_keys(self, event: Event) -> tuple[str, ...]:
        """Return what our ledger would call the event; nothing for a withheld value, of which nobody can tell."""
        name = event.property_name
        if event.kind != "propertyChange" or name is None or event.is_sensitive:
            return ()
        by_us = event.change_source == "INTEGRATION" and str(event.raw.get("sourceId")) == str(event.app_id)
        value = event.property_value or ""
        echoes = self._crm.own_writes
        by_another = event.change_source not in {None, "INTEGRATION", "API"}
        return echoes.keys_for_change(
            event.portal_id, event.object_type, event.object_id, name, value, made_by_us=by_us, made_by_other=by_another
        )

    async def dispatch(self, call: HandlerCall, lane: Lane, redis_time_ms: int) -> Resolution | None:
        """Run a turn and settle what it stands for; return why later turns of the lane must wait, if they must.

        Args:
            turn: of those that `plan` returned.
            lane: of the turn's object; it is ours.
            read_ms: what happened at HubSpot before is in what the handler reads; by Redis' clock, in epoch ms.
        """
        work = call.item
        route = self._router.match(work.event)
        writes: list[WriteRecord] = []
        came = work.entry.event if work.merged_from else work.event
        applied_at = lane.newest_applied.get(lanes.ordering_key(work.event) or "", 0)
        standing = EventCurrentValue(self._crm.own_writes, work.event, came, applied_at=applied_at)
        verdict = await self._resolve(call, lane, route, writes, standing)
        if writes and route is not None and verdict is PROCESSED:
            with suppress(RedisError, OSError):  # what is not counted is one more round
                await self._rewrite_loops.record_writes(work.event, route.name, writes)
        if verdict.delay_s is None:
            news = steps.applied_timestamps(
                work.event, verdict, writes, redis_time_ms, used_event_value=standing.used_event_value
            )
            lane.newest_applied |= {name: max(at, lane.newest_applied.get(name, 0)) for name, at in news.items()}
            if verdict is SUPERSEDED and (name := lanes.ordering_key(work.event)):
                news = {name: lane.newest_applied[name]}  # whoever applied that may not have been the one to settle it
            for older in call.coalesced:
                older.delivery_run.resolve(older, COALESCED, route.name if route else "")
        else:
            news = {}
        work.delivery_run.resolve(work, verdict, route.name if route else "", writes, news)
        if verdict.delay_s is None:
            return None
        waiting = parked_for("behind_another", verdict.delay_s)
        work.delivery_run.postpone(call.coalesced, waiting)
        return waiting

    async def _resolve(
        self,
        call: HandlerCall,
        lane: Lane,
        route: Route | None,
        writes: "list[WriteRecord]",
        current_value: EventCurrentValue,
    ) -> Resolution:
        """Return how the turn ends: always, or its delivery would stay unfinished for as long as this process lives."""
        try:
            return await self._resolve_without_handler(call, lane, route) or await self._call_handler(
                call, lane, route, writes, current_value
            )
        except Exception as error:  # noqa: BLE001 - ours and not the handler's: mostly, Redis was away between two steps
            attempt = call.item.entry.attempt + 1
            return resolution_for_error(attempt, error, schedule_s=self._settings.retry_schedule_s, rng=self._rng)

    async def _resolve_without_handler(self, call: HandlerCall, lane: Lane, route: Route | None) -> Resolution | None:
        """Return the verdict for an event whose handler is not to run, or None."""
        event = call.item.event
        if time.monotonic() > lane.lease_until:
            return LEASE_LOST
        if verdict := _known_resolution(call.item, lane):
            if verdict is ECHO:
                await self._rewrite_loops.on_echo(event, route)
            return verdict
        if route is None:
            return NO_HANDLER
        if self._pauses.is_paused(event.portal_id):
            return _PORTAL_PAUSED
        return REWRITE_LOOP if await self._rewrite_loops.is_loop(event) else None

    async def _call_handler(
        self,
        call: HandlerCall,
        lane: Lane,
        route: Route | None,
        writes: "list[WriteRecord]",
        current_value: EventCurrentValue,
    ) -> Resolution:
        if route is None:
            return NO_HANDLER
        work, event = call.item, call.item.event
        attempt = work.entry.attempt + 1
        limit = self._timeouts.new_timeout()
        tools = Tools(
            partial(services_for, self._crm, work, route, lane=lane, timeout=limit, writes=writes),
            partial(OnceGuard, self._redis, event),
            current_value,
            partial(purge_object, self._redis, event),
            self._settings.default_region,
            attempt,
            call.oldest_value,
            len(call.coalesced),
        )
        delivery_id = work.delivery_run.delivery.id
        if _LOGGED_DELIVERY_ID.get() != delivery_id:  # binding costs more than many a handler
            _LOGGED_DELIVERY_ID.set(delivery_id)
            structlog.contextvars.bind_contextvars(delivery_id=delivery_id, portal_id=event.portal_id)
        started = time.perf_counter()
        try:
            try:
                with limit:
                    await route.function(event, tools)
            finally:
                work.delivery_run.metrics.handler_ran(route.name, time.perf_counter() - started)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises must end in a verdict
            return await self._resolve_error(work, attempt, error, route)
        if tools.has_used_crm:
            await self._pauses.record_result(event.portal_id, None)
        return PROCESSED

    async def _resolve_error(self, item: WorkItem, attempt: int, error: Exception, route: Route) -> Resolution:
        event = item.event
        if isinstance(error, ObjectNotFound) and await self._merge_map.surviving_id(event) != event.survivor_id:
            return MERGED_AWAY
        await self._pauses.record_result(event.portal_id, error)
        verdict = resolution_for_error(attempt, error, schedule_s=self._settings.retry_schedule_s, rng=self._rng)
        if verdict.is_final:
            report_error(error, handler=route.name, reason=verdict.reason)
        return verdict

    def _handles_each_event(self, event: Event) -> bool:
        route = self._router.match(event)
        return route is not None and route.uses.each_event


def _known_resolution(item: WorkItem, lane: Lane) -> Resolution | None:
    """Return the verdict that follows from what is known already."""
    if item.delivery_run.crash_loop:
        return CRASH_LOOP
    if item.merged_from and item.event.kind == "deletion":
        return MERGED
    if lanes.is_superseded(item.event, lane.newest_applied):
        return SUPERSEDED
    return ECHO if item.is_echo else None
