"""Put a simulator's events directly into the queue, without a web process, in any order and grouping."""

import time
from collections.abc import Iterable
from random import Random
from typing import Final

from redis.asyncio import Redis

from spokes.core.delivery import Delivery, Entry, job_payload, new_delivery_id
from spokes.core.events import Event, RawEvent
from spokes.core.redis.keys import JOB_KEY_PREFIX, JOB_QUEUE, WAKE_CHANNEL
from spokes.intake.event_keys import EventKeys
from spokes.simulator.app import Simulator

_KEYS: Final = EventKeys(b"a-key-for-scenarios")


class QueueFeed:
    """Queues the events of a simulator without a target."""

    def __init__(self, sim: Simulator, redis: Redis, rng: Random) -> None:
        self.queued_count = 0
        self._sim = sim
        self._redis = redis
        self._rng = rng
        self._late: list[RawEvent] = []

    async def queue_shuffled(self, *, size: int, late: float = 0.0) -> None:
        """Queue new events in random order, in deliveries of up to `size`; keep the share `late` for the next call."""
        raws = [*self._late, *self._take_new()]
        self._rng.shuffle(raws)
        late_count = int(len(raws) * late)
        self._late, raws = raws[:late_count], raws[late_count:]
        while raws:
            count = self._rng.randint(1, size)
            await self._queue(raws[:count])
            raws = raws[count:]

    def _take_new(self) -> list[RawEvent]:
        events = self._sim.deliveries.events
        raws = [event.element for event in events if isinstance(event.element, dict)]
        self._sim.sender.discard_all()
        self._sim.deliveries.clear()
        return raws

    async def _queue(self, raws: Iterable[RawEvent]) -> None:
        entries = tuple(Entry(_KEYS(event), 0, event.raw) for event in map(Event, raws))
        delivery = Delivery(new_delivery_id(entries[0].event.portal_id), entries[0].event.portal_id, 1, entries)
        self.queued_count += len(entries)
        now_ms = time.time_ns() // 1_000_000
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.set(JOB_KEY_PREFIX + delivery.id, job_payload(delivery, now_ms))
            pipeline.zadd(JOB_QUEUE, {delivery.id: now_ms})
            pipeline.publish(WAKE_CHANNEL, "")
            await pipeline.execute()
