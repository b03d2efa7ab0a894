"""spokes.console.queries.queue_classes: waiting and running deliveries of each class."""

from redis.asyncio import Redis

from spokes.console.queries.queue_classes import queue_classes
from spokes.core import clock
from spokes.core.redis.keys import IN_PROGRESS_KEY_PREFIX, QUEUES


async def test_classes_are_counted_separately_and_running_deliveries_do_not_wait(redis: Redis) -> None:
    now = clock.now_ms()
    await redis.zadd(QUEUES["interactive"], {"1-1-a": now - 60_000, "1-1-b": now - 3_000, "1-1-c": now + 60_000})
    await redis.zadd(QUEUES["import"], {"1-1-d": now - 20_000, "1-1-e": now - 10_000})
    await redis.set(IN_PROGRESS_KEY_PREFIX + "1-1-a", "worker")
    interactive, imports = await queue_classes(redis)
    assert (interactive.waiting, interactive.scheduled, interactive.running) == (1, 1, 1)
    assert (imports.waiting, imports.scheduled, imports.running) == (2, 0, 0)
    assert 3 <= interactive.oldest_waiting_s < 20 <= imports.oldest_waiting_s < 60
