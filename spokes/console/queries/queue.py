"""What waits for the workers, and for how long. Rule: lag counts from HubSpot's `occurredAt`, as people feel it."""

import time
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis

from spokes.audit.stream import backlog
from spokes.console.queries.portal_scope import Portals, sees
from spokes.core.delivery import JOB_KEY_PREFIX, QUEUE_NAME, Delivery
from spokes.privacy.redis_data import read_job
from spokes.queue.portal_pauses import Circuit, Pause

RUNNING: Final = "arq:in-progress:"  # arq's own name for the lease on a job
_PAGE: Final = 200  # jobs fetched at a time
LOOKED_AT: Final = 200  # deliveries of which the events are read: the first in line
_NAMED: Final = 20_000  # jobs of which the name is read, for who may not see all portals


@dataclass(frozen=True, slots=True)
class Waiting:
    """A delivery in the queue: when it is due (epoch ms), and whether a worker is at it."""

    delivery: Delivery
    due_at: int
    in_progress: bool


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits.

    `due` deliveries could run now, `later` ones wait for their time, `in_progress` are among them. `late_s` is how
    long the first one has been due; `lag_s` how long ago the oldest event happened that waits among the first in
    line, None when none does. `unarchived` records wait for the store, None for who may not see all portals.
    """

    due: int
    later: int
    in_progress: int
    late_s: float
    lag_s: float | None
    unarchived: int | None
    paused: dict[int, Pause]
    complete: bool = True  # else `due`, `later` and `in_progress` count only the first in line

    @property
    def backlog(self) -> int:
        """All deliveries that wait."""
        return self.due + self.later


async def queue(redis: Redis, portals: Portals, *, now_ms: int | None = None) -> Queue:
    """Return how it stands with the queue.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    now = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    paused = {portal: pause for portal, pause in (await Circuit(redis).pauses()).items() if sees(portals, portal)}
    first = await waiting(redis, portals)
    oldest = [entry.raw["occurredAt"] for job in first for entry in job.delivery.entries if "occurredAt" in entry.raw]
    lag_s = max(0.0, (now - min(oldest)) / 1000) if oldest else None
    late_s = max(0.0, (now - min(job.due_at for job in first)) / 1000) if first else 0.0
    running = sum(job.in_progress for job in first)
    if portals is None:
        due = await redis.zcount(QUEUE_NAME, "-inf", now)
        later = await redis.zcard(QUEUE_NAME) - due
        return Queue(due, later, running, late_s, lag_s, await backlog(redis), paused, len(first) == due + later)
    names = await _names(redis, portals, _NAMED)
    due = sum(at <= now for _, at in names)
    complete = len(names) <= len(first) or await redis.zcard(QUEUE_NAME) <= _NAMED
    return Queue(due, len(names) - due, running, late_s, lag_s, None, paused, complete)


async def waiting(redis: Redis, portals: Portals, *, most: int = LOOKED_AT) -> list[Waiting]:
    """Return the deliveries that are first in line, `most` at the most; what nobody can read is left out.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    names = (await _names(redis, portals, most if portals is None else _NAMED))[:most]
    found: list[Waiting] = []
    for start in range(0, len(names), _PAGE):
        page = names[start : start + _PAGE]
        found += await _read(redis, page)
    return found


async def look_up(redis: Redis, ids: list[str]) -> list[Waiting]:
    """Return those of the deliveries with these ids that wait.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    if not ids:
        return []
    scores = await redis.zmscore(QUEUE_NAME, ids)
    return await _read(redis, [(name, int(at)) for name, at in zip(ids, scores, strict=True) if at is not None])


async def _names(redis: Redis, portals: Portals, most: int) -> list[tuple[str, int]]:
    found = await redis.zrange(QUEUE_NAME, 0, most - 1, withscores=True)
    names = [(name.decode(), int(at)) for name, at in found]
    return [(name, at) for name, at in names if portals is None or _portal(name) in portals]


def _portal(name: str) -> int:
    """The portal in a delivery's id; -1 for a job that is none of ours."""
    told = name.partition("-")[0]
    return int(told) if told.isdecimal() else -1


async def _read(redis: Redis, names: list[tuple[str, int]]) -> list[Waiting]:
    if not names:
        return []
    async with redis.pipeline(transaction=False) as pipeline:
        pipeline.mget([JOB_KEY_PREFIX + name for name, _ in names])
        for name, _ in names:
            pipeline.exists(RUNNING + name)
        payloads, *running = await pipeline.execute()
    return [
        Waiting(delivery, due_at, bool(busy))
        for (_, due_at), payload, busy in zip(names, payloads, running, strict=True)
        if (delivery := read_job(payload))
    ]
