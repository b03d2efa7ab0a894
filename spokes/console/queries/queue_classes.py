"""The queue by priority class: what waits, what runs, and how long the oldest delivery has been due."""

from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis

from spokes.core import clock
from spokes.core.priority import PRIORITIES, Priority
from spokes.core.redis.keys import IN_PROGRESS_KEY_PREFIX, QUEUES

_MAX_DELIVERIES_READ: Final = 500  # of each class, the first in its queue: running ones are among them


@dataclass(frozen=True, slots=True)
class QueueClass:
    """One priority class: numbers of deliveries, and seconds for which the oldest waiting one has been due.

    `waiting` deliveries are due and no worker runs them; `scheduled` ones are due later.
    """

    priority: Priority
    waiting: int
    scheduled: int
    running: int
    oldest_waiting_s: float


async def queue_classes(redis: Redis) -> tuple[QueueClass, ...]:
    """Return the state of each class, the most urgent first.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    return tuple([await _queue_class(redis, priority, clock.now_ms()) for priority in PRIORITIES])


async def _queue_class(redis: Redis, priority: Priority, now_ms: int) -> QueueClass:
    name = QUEUES[priority]
    due, total = await redis.zcount(name, "-inf", now_ms), await redis.zcard(name)
    first = await redis.zrange(name, 0, _MAX_DELIVERIES_READ - 1, withscores=True)
    leases = [IN_PROGRESS_KEY_PREFIX.encode() + job_id for job_id, _ in first]
    is_running = [lease is not None for lease in await redis.mget(leases)] if leases else []
    waiting_since = [at for (_, at), runs in zip(first, is_running, strict=True) if not runs and at <= now_ms]
    running_due = sum(runs and at <= now_ms for (_, at), runs in zip(first, is_running, strict=True))
    oldest_s = max(0.0, (now_ms - min(waiting_since)) / 1000) if waiting_since else 0.0
    return QueueClass(priority, max(0, due - running_due), total - due, sum(is_running), oldest_s)
