"""process_delivery, the one arq function: a delivery in, settled events out.

Rule: an event is settled in the transaction that records its outcome; what is not settled runs again.
"""

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from redis.asyncio import Redis

from spokes.core.delivery import Delivery
from spokes.core.errors import UnreadableDelivery
from spokes.core.redis.outage import RedisOutage
from spokes.core.settings import Settings
from spokes.core.telemetry.sentry import record_span
from spokes.core.telemetry.setup import log_canonical_line
from spokes.queue.portal_pauses import PortalPauses
from spokes.queue.unreadable_jobs import store_unreadable
from spokes.routing import Router
from workers.delivery.delivery_run import DeliveryRun
from workers.delivery.dispatch import Dispatcher
from workers.delivery.lane_manager import LaneManager
from workers.delivery.lane_pool import LanePool
from workers.delivery.lanes import Lane, WorkItem
from workers.delivery.merge_map import MergeMap
from workers.delivery.resolution import parked_for
from workers.delivery.settlement import Settlement
from workers.queue import crash_loops as suspects
from workers.queue.crash_loops import CrashLoopGuard
from workers.queue.leases import Lease

if TYPE_CHECKING:
    from spokes.crm.services import CRM

PREFETCH_FACTOR: Final = 4  # times what runs: others are being claimed, begun, settled; with less, we wait for Redis
_BUSY_WAITS_S: Final = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)  # waits for objects that are being worked on elsewhere
_OBJECT_BUSY: Final = parked_for("object_busy", 2.0)


class DeliveryRunner:
    """Everything `process_delivery` needs, made once for each worker process."""

    def __init__(
        self, settings: Settings, redis: Redis, router: Router, crm: "CRM", pauses: PortalPauses, *, holder: str,
        outage: RedisOutage,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._redis = redis
        self._merge_map = MergeMap(redis)
        self._settlement = Settlement(redis, holder, outage)
        self._dispatcher = Dispatcher(settings, redis, router, crm, pauses, merge_map=self._merge_map)
        self._lane_pool = LanePool(self._work_lane, max_tasks=settings.max_objects)
        self._lane_manager = LaneManager(redis, holder, outage, self._lane_pool.start)
        self._crash_loops = CrashLoopGuard(redis)
        self._outstanding = 0

    def leases(self) -> list[Lease]:
        """Return the leases of the lanes we hold, with what they say."""
        lanes = (*self._lane_manager.held.values(), *self._settlement.lanes_being_released())
        return [Lease(lane.key, lane.token) for lane in lanes]

    def lease_renewed(self, lease: Lease, until: float) -> None:
        """Take note that a lane stays ours until then."""
        if (lane := self._lane_manager.held.get(lease.key)) and lane.token == lease.value:
            lane.lease_until = until

    def free_capacity(self) -> int:
        """Return how many events to take on: as many as keep us busy, so that other workers find some too."""
        return PREFETCH_FACTOR * self._settings.max_objects - self._outstanding

    async def run(self, delivery: Delivery, job_try: int) -> bool:
        """Work a delivery off; what could not be ended goes into later deliveries.

        Returns:
            False when another worker has a hand in it, and it must stay in the queue.
        """
        if job_try < suspects.SUSPECT_FROM_TRY or not delivery.entries:
            return await self._run(delivery, job_try)
        if len(delivery.entries) == 1:
            async with self._crash_loops.isolate(delivery) as killer:
                return await self._run(delivery, job_try, crash_loop=killer)
        run = DeliveryRun(delivery, self._settlement, self._settings, crash_loop=False)
        run.split(await self._crash_loops.settled_keys(delivery), job_try)
        return await run.finished()

    async def _run(self, delivery: Delivery, job_try: int, *, crash_loop: bool = False) -> bool:
        started = time.perf_counter()
        run = DeliveryRun(delivery, self._settlement, self._settings, crash_loop=crash_loop)
        events = len(run.items)
        self._outstanding += events
        try:
            if merges := [work.event for work in run.items if work.event.kind == "merge"]:
                await self._merge_map.record(merges)
            await self._acquire_lanes(run)
            ended = await run.finished()
        finally:
            self._outstanding -= events
        told = {"delivery_id": delivery.id, "portal_id": delivery.portal_id, "events": events, "job_try": job_try}
        seconds = time.perf_counter() - started
        record_span("delivery", "process_delivery", seconds)
        outcomes = {outcome.value: count for outcome, count in run.outcomes.items()}
        log_canonical_line("delivery", {**told, **outcomes, "ms": round(seconds * 1000, 1)})
        return ended

    async def close(self) -> None:
        """Stop what is running; its events are not settled, and run again elsewhere."""
        await self._lane_pool.close()
        await self._settlement.close()

    async def _acquire_lanes(self, run: DeliveryRun) -> None:
        """Let all works of a run into their lanes; those whose object stays busy elsewhere are put off."""
        works = run.items
        for work in works:
            work.echo_keys = self._dispatcher.echo_keys(work.event)
        for pause_s in _BUSY_WAITS_S:
            works = await self._lane_manager.acquire(run, works)
            if any(work.merged_from for work in works):  # their lanes are others now
                works = await self._lane_manager.acquire(run, works)
            if not works:
                return
            await asyncio.sleep(pause_s)
        run.postpone(self._lane_manager.cancel_waiting(works), _OBJECT_BUSY)

    async def _work_lane(self, lane: Lane) -> None:
        """Work off what waits in a lane, and what comes in meanwhile; then give it back."""
        try:
            while lane.items:
                works, lane.items = lane.items, []
                await self._work_items(lane, works)
        finally:
            del self._lane_manager.held[lane.key]
            self._settlement.release_lane(lane)

    async def _work_items(self, lane: Lane, works: list[WorkItem]) -> None:
        waiting = None
        for turn in self._dispatcher.plan(works, lane):
            if waiting is None:
                waiting = await self._dispatcher.dispatch(turn, lane, self._lane_manager.redis_time_ms)
            else:
                turn.item.delivery_run.postpone((*turn.coalesced, turn.item), waiting)


async def process_delivery(ctx: dict[str, Any], job: Any) -> bool:
    """Work off the delivery in `job`; arq calls it.

    Returns:
        True when the job has left the queue already, together with its last event.
    """
    processor: DeliveryRunner = ctx["processor"]
    try:
        delivery = Delivery.from_job(job)
        ended = await processor.run(delivery, ctx["job_try"])
    except UnreadableDelivery:
        await store_unreadable(ctx["redis"], ctx["job_id"], job)
        return False
    if not ended:
        raise asyncio.CancelledError  # how arq is told to leave a job in the queue
    return True
