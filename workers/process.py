"""process_delivery, the one arq function: a delivery in, settled events out.

Rule: an event is settled in the transaction that records its outcome; what is not settled runs again.
"""

import asyncio
import random
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog
from redis.asyncio import Redis

from core.deliveries import Delivery
from core.errors import UnreadableDelivery
from core.events import Event
from core.settings import Settings
from core.telemetry import alert, report
from handlers.routing import Route, Router
from handlers.tools import Tools
from workers import keys, steps
from workers.forgetting import forget
from workers.lanes import Lanes, Work, group, is_superseded
from workers.once import OnceForEvent
from workers.settlement import Settlement
from workers.verdicts import CRASH_LOOP, ECHO, NO_HANDLER, PROCESSED, SUPERSEDED, Verdict, judge, parked

if TYPE_CHECKING:
    from crm.services import CRM, Write

_MOST_TRIES: Final = 25  # runs of one delivery; more means that it kills its workers
_BUSY_S: Final = 2.0  # how long events wait whose object is being worked on elsewhere
log = structlog.get_logger()


class Processor:
    """Everything `process_delivery` needs, made once for each worker process."""

    def __init__(self, settings: Settings, redis: Redis, router: Router, crm: "CRM", lanes: Lanes) -> None:
        self._settings = settings
        self._redis = redis
        self._router = router
        self._crm = crm
        self._lanes = lanes
        self._settlement = Settlement(redis)
        self._objects = asyncio.Semaphore(settings.max_objects)
        self._rng = random.Random()

    async def process(self, delivery: Delivery, job_try: int) -> None:
        """Work a delivery off; what could not be ended goes into later deliveries."""
        started = time.perf_counter()
        mark = keys.settled(delivery.portal_id, delivery.id)
        settled = {key.decode() for key in await self._redis.smembers(mark)}  # type: ignore[misc]  # redis-py types one class for sync and async
        left = [entry for entry in delivery.entries if entry.key not in settled]
        lanes = group(delivery.portal_id, left)
        run = _DeliveryRun(delivery, crash_loop=job_try > _MOST_TRIES)
        async with asyncio.TaskGroup() as tasks:
            for lane, works in lanes.items():
                tasks.create_task(self._run_lane(run, lane, works))
        for later in run.later.values():
            await self._settlement.settle(partial(steps.postpone, later=later))
        await self._redis.delete(mark)
        ms = round((time.perf_counter() - started) * 1000)
        log.info("delivery", events=len(left), settled_before=len(settled), job_try=job_try, ms=ms, **run.outcomes)

    async def _run_lane(self, run: "_DeliveryRun", lane: str, works: list[Work]) -> None:
        """Work one object's events off in their order; after one that must wait, the others wait too."""
        async with self._objects:
            waiting = None if await self._lanes.take(lane) else parked("object_busy", _BUSY_S)
            try:
                newest = {} if waiting else await self._newest(works[0].event)
                for work in works:
                    verdict = waiting or await self._end(run, work, newest)
                    if verdict.delay_s is not None:
                        if waiting:
                            run.postpone(work, verdict)
                        waiting = waiting or parked("behind_another", verdict.delay_s)
            finally:
                await self._lanes.give(lane)

    async def _end(self, run: "_DeliveryRun", work: Work, newest: dict[str, int]) -> Verdict:
        """Run one event and settle it, or put it off; return how it stands."""
        route = self._router.fetch(work.event)
        writes: list[Write] = []
        verdict = CRASH_LOOP if run.crash_loop else await self._work(work, route, newest, writes)
        ended = run.ended(work, verdict, route.name if route else "", tuple(writes))
        if verdict.delay_s is None:
            await self._settlement.settle(
                partial(
                    steps.end,
                    run=ended,
                    dead_letter_s=self._settings.dead_letter_days * 86_400,
                    newest_s=self._settings.dedupe_hours * 3600,
                )
            )
        return verdict

    async def _work(self, work: Work, route: Route | None, newest: dict[str, int], writes: "list[Write]") -> Verdict:
        """Decide whether the handler is to run, and run it."""
        event = work.event
        if is_superseded(event, newest):
            return SUPERSEDED
        if event.kind == "propertyChange" and event.property_name is not None:
            if await self._is_echo(event, event.property_name):
                return ECHO
            newest[event.property_name] = event.occurred_at
        if route is None:
            return NO_HANDLER
        attempt = work.entry.attempt + 1
        try:
            async with asyncio.timeout(self._settings.handler_timeout_s):
                await route.function(event, self._tools(event, route, attempt, writes))
        except Exception as error:  # noqa: BLE001 - whatever a handler raises must end in a verdict
            verdict = judge(attempt, error, schedule_s=self._settings.retry_schedule_s, rng=self._rng)
            if verdict.is_final:
                report(error, handler=route.name, reason=verdict.reason)
            elif verdict.reason == "not_authorized" and await self._first(event.portal_id, verdict.reason):
                alert("crm_not_authorized", portal_id=event.portal_id)
            return verdict
        return PROCESSED

    def _tools(self, event: Event, route: Route, attempt: int, writes: "list[Write]") -> Tools:
        uses = route.uses
        return Tools(
            crm=self._crm.for_event(event.portal_id, event.object_type, uses.reads, uses.may, writes.append),
            once=OnceForEvent(self._redis, event),
            forget=lambda: forget(self._redis, event),
            region=self._settings.default_region,
            attempt=attempt,
        )

    async def _is_echo(self, event: Event, name: str) -> bool:
        """Return whether the event is our own write coming back; of a withheld value nobody can tell."""
        if event.is_sensitive:
            return False
        value = event.property_value or ""
        return await self._crm.echoes.is_echo(event.portal_id, event.object_type, event.object_id, name, value)

    async def _newest(self, event: Event) -> dict[str, int]:
        """Read how new the truth is that was already applied to the event's object."""
        marks = await self._redis.hgetall(keys.newest(event.portal_id, event.object_type, event.object_id))  # type: ignore[misc]  # redis-py types one class for sync and async
        return {name.decode(): int(at) for name, at in marks.items()}

    async def _first(self, portal_id: int, episode: str) -> bool:
        """Return whether this is the first alert of its kind within the hour, over all workers."""
        return bool(await self._redis.set(keys.episode(portal_id, episode), 1, nx=True, ex=3600))


class _DeliveryRun:
    """One run of one delivery: what it has come to so far."""

    def __init__(self, delivery: Delivery, *, crash_loop: bool) -> None:
        self.delivery = delivery
        self.crash_loop = crash_loop
        self.outcomes: dict[str, int] = {}
        self.later: dict[str, steps.Later] = {}  # by reason: a short wait is not held up by a long one

    def ended(self, work: Work, verdict: Verdict, handler: str, writes: "tuple[Write, ...]") -> steps.Run:
        """Take note of a run's end; an event that is to be tried again goes to those that wait for the same reason."""
        attempt = work.entry.attempt + verdict.spent
        run = steps.Run(self.delivery, work.entry._replace(attempt=attempt), work.event, verdict, handler, writes)
        self.outcomes[verdict.outcome.value] = self.outcomes.get(verdict.outcome.value, 0) + 1
        if verdict.delay_s is not None:
            self.later.setdefault(verdict.reason, steps.Later()).add(run)
        return run

    def postpone(self, work: Work, verdict: Verdict) -> None:
        """Put off an event that was not run at all."""
        self.ended(work, verdict, "", ())


async def process_delivery(ctx: dict[str, Any], job: Any) -> None:
    """Work off the delivery in `job`; arq calls it."""
    processor: Processor = ctx["processor"]
    try:
        delivery = Delivery.from_job(job)
    except UnreadableDelivery:
        alert("unreadable_delivery", job_id=ctx["job_id"])
        return
    with structlog.contextvars.bound_contextvars(delivery_id=delivery.id, portal_id=delivery.portal_id):
        await processor.process(delivery, ctx["job_try"])
