"""What the simulator tells goes into the queue, past the door. Rule: order and deliveries are ours to choose."""

import time
from collections.abc import Iterable
from random import Random
from typing import Final

from redis.asyncio import Redis

from spokes.core.delivery import JOB_KEY_PREFIX, JOB_QUEUE, WAKE_CHANNEL, Delivery, Entry, job_payload, new_delivery_id
from spokes.core.events import Event, RawEvent
from spokes.intake.event_keys import EventKeys
from spokes.simulator.app import Simulator

_KEYS: Final = EventKeys(b"a-key-for-scenarios")


class Feed:
    """Takes from a simulator that has no target."""

    def __init__(self, sim: Simulator, redis: Redis, rng: Random) -> None:
        self.told = 0
        self._sim = sim
        self._redis = redis
        self._rng = rng
        self._late: list[RawEvent] = []

    async def shuffled(self, *, size: int, late: float = 0.0) -> None:
        """Queue what is new in random order, in deliveries of up to `size`; a share of it comes the next time."""
        raws = [*self._late, *self._new()]
        self._rng.shuffle(raws)
        keep = int(len(raws) * late)
        self._late, raws = raws[:keep], raws[keep:]
        while raws:
            count = self._rng.randint(1, size)
            await self._queue(raws[:count])
            raws = raws[count:]

    def _new(self) -> list[RawEvent]:
        events = self._sim.deliveries.events
        raws = [event.element for event in events if isinstance(event.element, dict)]
        self._sim.sender.discard_all()
        self._sim.deliveries.clear()
        return raws

    async def _queue(self, raws: Iterable[RawEvent]) -> None:
        entries = tuple(Entry(_KEYS(event), 0, event.raw) for event in map(Event, raws))
        delivery = Delivery(new_delivery_id(entries[0].event.portal_id), entries[0].event.portal_id, 1, entries)
        self.told += len(entries)
        now_ms = time.time_ns() // 1_000_000
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.set(JOB_KEY_PREFIX + delivery.id, job_payload(delivery, now_ms))
            pipeline.zadd(JOB_QUEUE, {delivery.id: now_ms})
            pipeline.publish(WAKE_CHANNEL, "")
            await pipeline.execute()
