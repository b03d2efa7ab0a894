"""process_delivery, the one arq function: a delivery in, settled events out.

Rule: an event is settled in the transaction that records its outcome; what is not settled runs again.
"""

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from redis.asyncio import Redis

from spokes.core.delivery import Delivery
from spokes.core.errors import UnreadableDelivery
from spokes.core.redis.outage import Patience
from spokes.core.settings import Settings
from spokes.core.telemetry.sentry import timed
from spokes.core.telemetry.setup import canonical
from spokes.queue.portal_pauses import Circuit
from spokes.queue.unreadable_jobs import keep_unreadable
from spokes.routing import Router
from workers.delivery.delivery_run import Run
from workers.delivery.dispatch import Turns
from workers.delivery.lane_manager import Beginning
from workers.delivery.lane_pool import Runners
from workers.delivery.lanes import Lane, Work
from workers.delivery.merge_map import Merges
from workers.delivery.resolution import parked
from workers.delivery.settlement import Settlement
from workers.queue import crash_loops as suspects
from workers.queue.crash_loops import Suspects
from workers.queue.leases import Lease

if TYPE_CHECKING:
    from spokes.crm.services import CRM

TAKEN_ON: Final = 4  # times what runs: others are being claimed, begun, settled; with less, we wait for Redis
_PAUSES_S: Final = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)  # waits for objects that are being worked on elsewhere
_BUSY: Final = parked("object_busy", 2.0)


class Processor:
    """Everything `process_delivery` needs, made once for each worker process."""

    def __init__(
        self, settings: Settings, redis: Redis, router: Router, crm: "CRM", circuit: Circuit, *, holder: str,
        patience: Patience,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._redis = redis
        self._merges = Merges(redis)
        self._settlement = Settlement(redis, holder, patience)
        self._turns = Turns(settings, redis, router, crm, circuit, merges=self._merges)
        self._runners = Runners(self._work_lane, most=settings.max_objects)
        self._beginning = Beginning(redis, holder, patience, self._runners.run)
        self._suspects = Suspects(redis)
        self._outstanding = 0

    def leases(self) -> list[Lease]:
        """Return the leases of the lanes we hold, with what they say."""
        lanes = (*self._beginning.held.values(), *self._settlement.leaving())
        return [Lease(lane.key, lane.token) for lane in lanes]

    def renewed(self, lease: Lease, until: float) -> None:
        """Take note that a lane stays ours until then."""
        if (lane := self._beginning.held.get(lease.key)) and lane.token == lease.says:
            lane.until = until

    def room(self) -> int:
        """Return how many events to take on: as many as keep us busy, so that other workers find some too."""
        return TAKEN_ON * self._settings.max_objects - self._outstanding

    async def process(self, delivery: Delivery, job_try: int) -> bool:
        """Work a delivery off; what could not be ended goes into later deliveries.

        Returns:
            False when another worker has a hand in it, and it must stay in the queue.
        """
        if job_try < suspects.FROM_TRY or not delivery.entries:
            return await self._process(delivery, job_try)
        if len(delivery.entries) == 1:
            async with self._suspects.alone(delivery) as killer:
                return await self._process(delivery, job_try, crash_loop=killer)
        run = Run(delivery, self._settlement, self._settings, crash_loop=False)
        run.scatter(await self._suspects.settled(delivery), job_try)
        return await run.ended()

    async def _process(self, delivery: Delivery, job_try: int, *, crash_loop: bool = False) -> bool:
        started = time.perf_counter()
        run = Run(delivery, self._settlement, self._settings, crash_loop=crash_loop)
        events = len(run.works)
        self._outstanding += events
        try:
            if merges := [work.event for work in run.works if work.event.kind == "merge"]:
                await self._merges.learn(merges)
            await self._enter(run)
            ended = await run.ended()
        finally:
            self._outstanding -= events
        told = {"delivery_id": delivery.id, "portal_id": delivery.portal_id, "events": events, "job_try": job_try}
        seconds = time.perf_counter() - started
        timed("delivery", "process_delivery", seconds)
        outcomes = {outcome.value: count for outcome, count in run.outcomes.items()}
        canonical("delivery", {**told, **outcomes, "ms": round(seconds * 1000, 1)})
        return ended

    async def close(self) -> None:
        """Stop what is running; its events are not settled, and run again elsewhere."""
        await self._runners.close()
        await self._settlement.close()

    async def _enter(self, run: Run) -> None:
        """Let all works of a run into their lanes; those whose object stays busy elsewhere are put off."""
        works = run.works
        for work in works:
            work.echo_keys = self._turns.echo_keys(work.event)
        for pause_s in _PAUSES_S:
            works = await self._beginning.enter(run, works)
            if any(work.merged_from for work in works):  # their lanes are others now
                works = await self._beginning.enter(run, works)
            if not works:
                return
            await asyncio.sleep(pause_s)
        run.put_off(self._beginning.give_up(works), _BUSY)

    async def _work_lane(self, lane: Lane) -> None:
        """Work off what waits in a lane, and what comes in meanwhile; then give it back."""
        try:
            while lane.waiting:
                works, lane.waiting = lane.waiting, []
                await self._work_off(lane, works)
        finally:
            del self._beginning.held[lane.key]
            self._settlement.give(lane)

    async def _work_off(self, lane: Lane, works: list[Work]) -> None:
        waiting = None
        for turn in self._turns.plan(works, lane):
            if waiting is None:
                waiting = await self._turns.take(turn, lane, self._beginning.seen_ms)
            else:
                turn.work.run.put_off((*turn.older, turn.work), waiting)


async def process_delivery(ctx: dict[str, Any], job: Any) -> bool:
    """Work off the delivery in `job`; arq calls it.

    Returns:
        True when the job has left the queue already, together with its last event.
    """
    processor: Processor = ctx["processor"]
    try:
        delivery = Delivery.from_job(job)
        ended = await processor.process(delivery, ctx["job_try"])
    except UnreadableDelivery:
        await keep_unreadable(ctx["redis"], ctx["job_id"], job)
        return False
    if not ended:
        raise asyncio.CancelledError  # how arq is told to leave a job in the queue
    return True
