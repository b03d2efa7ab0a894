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
from spokes.core.telemetry.setup import report
from spokes.privacy.redis_purge import forget
from spokes.queue.portal_pauses import Circuit
from spokes.routing import Route, Router
from spokes.tools import Tools
from workers.delivery import lanes
from workers.delivery import settlement_steps as steps
from workers.delivery.current_value import StandingForEvent
from workers.delivery.handler_services import services_for
from workers.delivery.handler_timeouts import Deadlines
from workers.delivery.lanes import Lane, Turn, Work
from workers.delivery.merge_map import Merges
from workers.delivery.once import OnceForEvent
from workers.delivery.resolution import (
    COALESCED,
    CRASH_LOOP,
    ECHO,
    LEASE_LOST,
    MERGED,
    MERGED_AWAY,
    NO_HANDLER,
    PAUSE_S,
    PROCESSED,
    REWRITE_LOOP,
    SUPERSEDED,
    Verdict,
    judge,
    parked,
)
from workers.delivery.rewrite_loops import Rounds

if TYPE_CHECKING:
    from spokes.crm.services import CRM, Write

_PAUSED: Final = parked("portal_paused", PAUSE_S)
_BOUND: Final = ContextVar("bound_delivery_id", default="")  # what the log context of this task names


class Turns:
    """Takes the turns of one worker process."""

    def __init__(
        self, settings: Settings, redis: Redis, router: Router, crm: "CRM", circuit: Circuit, *, merges: Merges
    ) -> None:
        self._settings = settings
        self._redis = redis
        self._router = router
        self._crm = crm
        self._circuit = circuit
        self._merges = merges
        self._rounds = Rounds(redis, derive_key(settings.master_key(), "rounds"))
        self._rng = random.Random()
        self._deadlines = Deadlines(settings.handler_timeout_s)

    def plan(self, works: list[Work], lane: Lane) -> list[Turn]:
        """Return in which turns a lane's works are run."""
        return lanes.turns(works, lane.newest, self._wants_each)

    def echo_keys(self, event: Event) -> tuple[str, ...]:
        """Return what our ledger would call the event; nothing for a withheld value, of which nobody can tell."""
        name = event.property_name
        if event.kind != "propertyChange" or name is None or event.is_sensitive:
            return ()
        by_us = event.change_source == "INTEGRATION" and str(event.raw.get("sourceId")) == str(event.app_id)
        value = event.property_value or ""
        echoes = self._crm.echoes
        by_another = event.change_source not in {None, "INTEGRATION", "API"}
        return echoes.names(
            event.portal_id, event.object_type, event.object_id, name, value, by_us=by_us, by_another=by_another
        )

    async def take(self, turn: Turn, lane: Lane, read_ms: int) -> Verdict | None:
        """Run a turn and settle what it stands for; return why later turns of the lane must wait, if they must.

        Args:
            turn: of those that `plan` returned.
            lane: of the turn's object; it is ours.
            read_ms: what happened at HubSpot before is in what the handler reads; by Redis' clock, in epoch ms.
        """
        work = turn.work
        route = self._router.fetch(work.event)
        writes: list[Write] = []
        came = work.entry.event if work.merged_from else work.event
        applied_at = lane.newest.get(lanes.slot(work.event) or "", 0)
        standing = StandingForEvent(self._crm.echoes, work.event, came, applied_at=applied_at)
        verdict = await self._verdict(turn, lane, route, writes, standing)
        if writes and route is not None and verdict is PROCESSED:
            with suppress(RedisError, OSError):  # what is not counted is one more round
                await self._rounds.wrote(work.event, route.name, writes)
        if verdict.delay_s is None:
            news = steps.news(work.event, verdict, writes, read_ms, told=standing.told)
            lane.newest |= {name: max(at, lane.newest.get(name, 0)) for name, at in news.items()}
            if verdict is SUPERSEDED and (name := lanes.slot(work.event)):
                news = {name: lane.newest[name]}  # whoever applied that may not have been the one to settle it
            for older in turn.older:
                older.run.end(older, COALESCED, route.name if route else "")
        else:
            news = {}
        work.run.end(work, verdict, route.name if route else "", writes, news)
        if verdict.delay_s is None:
            return None
        waiting = parked("behind_another", verdict.delay_s)
        work.run.put_off(turn.older, waiting)
        return waiting

    async def _verdict(
        self, turn: Turn, lane: Lane, route: Route | None, writes: "list[Write]", standing: StandingForEvent
    ) -> Verdict:
        """Return how the turn ends: always, or its delivery would stay unfinished for as long as this process lives."""
        try:
            return await self._decide(turn, lane, route) or await self._run(turn, lane, route, writes, standing)
        except Exception as error:  # noqa: BLE001 - ours and not the handler's: mostly, Redis was away between two steps
            attempt = turn.work.entry.attempt + 1
            return judge(attempt, error, schedule_s=self._settings.retry_schedule_s, rng=self._rng)

    async def _decide(self, turn: Turn, lane: Lane, route: Route | None) -> Verdict | None:
        """Return the verdict for an event whose handler is not to run, or None."""
        event = turn.work.event
        if time.monotonic() > lane.until:
            return LEASE_LOST
        if verdict := _known(turn.work, lane):
            if verdict is ECHO:
                await self._rounds.came_back(event, route)
            return verdict
        if route is None:
            return NO_HANDLER
        if self._circuit.is_paused(event.portal_id):
            return _PAUSED
        return REWRITE_LOOP if await self._rounds.is_loop(event) else None

    async def _run(
        self, turn: Turn, lane: Lane, route: Route | None, writes: "list[Write]", standing: StandingForEvent
    ) -> Verdict:
        if route is None:
            return NO_HANDLER
        work, event = turn.work, turn.work.event
        attempt = work.entry.attempt + 1
        limit = self._deadlines.limit()
        tools = Tools(
            partial(services_for, self._crm, work, route, lane=lane, limit=limit, writes=writes),
            partial(OnceForEvent, self._redis, event),
            standing,
            partial(forget, self._redis, event),
            self._settings.default_region,
            attempt,
            turn.first_value,
            len(turn.older),
        )
        delivery_id = work.run.delivery.id
        if _BOUND.get() != delivery_id:  # binding costs more than many a handler
            _BOUND.set(delivery_id)
            structlog.contextvars.bind_contextvars(delivery_id=delivery_id, portal_id=event.portal_id)
        started = time.perf_counter()
        try:
            try:
                with limit:
                    await route.function(event, tools)
            finally:
                work.run.tally.ran(route.name, time.perf_counter() - started)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises must end in a verdict
            return await self._judge(work, attempt, error, route)
        if tools.uses_crm:
            await self._circuit.judge(event.portal_id, None)
        return PROCESSED

    async def _judge(self, work: Work, attempt: int, error: Exception, route: Route) -> Verdict:
        event = work.event
        if isinstance(error, ObjectNotFound) and await self._merges.survivor(event) != event.survivor_id:
            return MERGED_AWAY
        await self._circuit.judge(event.portal_id, error)
        verdict = judge(attempt, error, schedule_s=self._settings.retry_schedule_s, rng=self._rng)
        if verdict.is_final:
            report(error, handler=route.name, reason=verdict.reason)
        return verdict

    def _wants_each(self, event: Event) -> bool:
        route = self._router.fetch(event)
        return route is not None and route.uses.each_event


def _known(work: Work, lane: Lane) -> Verdict | None:
    """Return the verdict that follows from what is known already."""
    if work.run.crash_loop:
        return CRASH_LOOP
    if work.merged_from and work.event.kind == "deletion":
        return MERGED
    if lanes.is_superseded(work.event, lane.newest):
        return SUPERSEDED
    return ECHO if work.is_echo else None
