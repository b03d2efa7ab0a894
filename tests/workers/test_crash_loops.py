"""workers.queue.crash_loops: deliveries and events that kill their workers."""

from redis.asyncio import Redis

from spokes.core.events import Event
from spokes.core.redis import keys
from spokes.core.redis.keys import JOB_QUEUE
from tests.workers.harness import KEYS, PORTAL, Harness, change


async def test_event_that_killed_two_workers_becomes_a_dead_letter(harness: Harness) -> None:
    key = KEYS(Event(change("x", 1)))
    await harness.redis.set(keys.crash_count(PORTAL, key), 2)
    await harness.run((change("x", 1),), attempt=4)
    assert await harness.outcomes() == [("dead", "crash_loop")]


async def test_delivery_whose_workers_died_is_split(harness: Harness, redis: Redis) -> None:
    await harness.run((change("x", 1), change("y", 1, object_id=2)), attempt=4)
    assert (await redis.zcard(JOB_QUEUE), await harness.outcomes()) == (2, [("parked", "worker_died")] * 2)
