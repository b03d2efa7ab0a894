"""What waits for the workers, and for how long. Rule: lag counts from HubSpot's `occurredAt`, as people feel it."""

from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis

from spokes.audit.stream import backlog
from spokes.console.queries.portal_scope import Portals, can_see
from spokes.core import clock
from spokes.core.delivery import JOB_KEY_PREFIX, JOB_QUEUE, Delivery
from spokes.privacy.redis_data import read_job
from spokes.queue.portal_pauses import PortalPause, PortalPauses

IN_PROGRESS_PREFIX: Final = "arq:in-progress:"  # arq's own name for the lease on a job
_PAGE_SIZE: Final = 200  # jobs fetched at a time
MAX_DELIVERIES_READ: Final = 200  # deliveries of which the events are read: the first in line
_MAX_IDS_READ: Final = 20_000  # jobs of which the name is read, for who may not see all portals


@dataclass(frozen=True, slots=True)
class WaitingDelivery:
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
    scheduled: int
    in_progress: int
    oldest_due_s: float
    event_lag_s: float | None
    unarchived: int | None
    paused: dict[int, PortalPause]
    complete: bool = True  # else `due`, `later` and `in_progress` count only the first in line

    @property
    def backlog(self) -> int:
        """All deliveries that wait."""
        return self.due + self.scheduled


async def queue_status(redis: Redis, portals: Portals, *, now_ms: int | None = None) -> Queue:
    """Return how it stands with the queue.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    now = clock.now_ms() if now_ms is None else now_ms
    paused = {portal: pause for portal, pause in (await PortalPauses(redis).list()).items() if can_see(portals, portal)}
    first = await waiting_deliveries(redis, portals)
    oldest = [entry.raw["occurredAt"] for job in first for entry in job.delivery.entries if "occurredAt" in entry.raw]
    lag_s = max(0.0, (now - min(oldest)) / 1000) if oldest else None
    late_s = max(0.0, (now - min(job.due_at for job in first)) / 1000) if first else 0.0
    running = sum(job.in_progress for job in first)
    if portals is None:
        due = await redis.zcount(JOB_QUEUE, "-inf", now)
        later = await redis.zcard(JOB_QUEUE) - due
        return Queue(due, later, running, late_s, lag_s, await backlog(redis), paused, len(first) == due + later)
    names = await _queued_ids(redis, portals, _MAX_IDS_READ)
    due = sum(at <= now for _, at in names)
    complete = len(names) <= len(first) or await redis.zcard(JOB_QUEUE) <= _MAX_IDS_READ
    return Queue(due, len(names) - due, running, late_s, lag_s, None, paused, complete)


async def waiting_deliveries(
    redis: Redis, portals: Portals, *, limit: int = MAX_DELIVERIES_READ
) -> list[WaitingDelivery]:
    """Return the deliveries that are first in line, `most` at the most; what nobody can read is left out.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    names = (await _queued_ids(redis, portals, limit if portals is None else _MAX_IDS_READ))[:limit]
    found: list[WaitingDelivery] = []
    for start in range(0, len(names), _PAGE_SIZE):
        page = names[start : start + _PAGE_SIZE]
        found += await _load_deliveries(redis, page)
    return found


async def find_waiting(redis: Redis, ids: list[str]) -> list[WaitingDelivery]:
    """Return those of the deliveries with these ids that wait.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    if not ids:
        return []
    scores = await redis.zmscore(JOB_QUEUE, ids)
    return await _load_deliveries(
        redis, [(name, int(at)) for name, at in zip(ids, scores, strict=True) if at is not None]
    )


async def _queued_ids(redis: Redis, portals: Portals, limit: int) -> list[tuple[str, int]]:
    found = await redis.zrange(JOB_QUEUE, 0, limit - 1, withscores=True)
    names = [(name.decode(), int(at)) for name, at in found]
    return [(name, at) for name, at in names if portals is None or _portal_of(name) in portals]


def _portal_of(job_id: str) -> int:
    """The portal in a delivery's id; -1 for a job that is none of ours."""
    told = job_id.partition("-")[0]
    return int(told) if told.isdecimal() else -1


async def _load_deliveries(redis: Redis, jobs: list[tuple[str, int]]) -> list[WaitingDelivery]:
    if not jobs:
        return []
    async with redis.pipeline(transaction=False) as pipeline:
        pipeline.mget([JOB_KEY_PREFIX + name for name, _ in jobs])
        for name, _ in jobs:
            pipeline.exists(IN_PROGRESS_PREFIX + name)
        payloads, *running = await pipeline.execute()
    return [
        WaitingDelivery(delivery, due_at, bool(busy))
        for (_, due_at), payload, busy in zip(jobs, payloads, running, strict=True)
        if (delivery := read_job(payload))
    ]
