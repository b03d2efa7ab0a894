"""Queue length, lag and waiting deliveries. Lag counts from HubSpot's `occurredAt`."""

import math
from dataclasses import dataclass, replace
from typing import Final

from redis.asyncio import Redis

from spokes.audit.stream import backlog
from spokes.console.number_input import parse_number
from spokes.console.queries.portal_scope import Portals, can_see
from spokes.core import clock
from spokes.core.delivery import Delivery, is_oversized
from spokes.core.redis.keys import IN_PROGRESS_KEY_PREFIX, JOB_KEY_PREFIX, QUEUES
from spokes.privacy.redis_data import read_job
from spokes.queue.pauses.call_pauses import CallPause, CallPauses
from spokes.queue.pauses.portal_pauses import PortalPause, PortalPauses

_PAGE_SIZE: Final = 200  # jobs fetched at a time
MAX_DELIVERIES_READ: Final = 200  # deliveries whose events are read: the first in the queue
_MAX_IDS_READ: Final = 20_000  # jobs whose id is read for actors who may not see all portals


@dataclass(frozen=True, slots=True)
class WaitingDelivery:
    """A delivery in the queue: when it is due (epoch ms), and whether a worker is running it."""

    delivery: Delivery
    due_at: int
    in_progress: bool


@dataclass(frozen=True, slots=True)
class Queue:
    """The state of the queue.

    `due` deliveries can run now, `scheduled` ones later; `in_progress` counts those that a worker runs; they
    stay in the queue until the run ends. `oldest_due_s` is how long the first delivery has been due. `event_lag_s` is
    the age of the oldest event among the first deliveries, None without any. `unarchived` counts audit records in
    Redis, None for actors who may not see all portals. `paused_calls` are the paused kinds of calls and handlers.
    """

    due: int
    scheduled: int
    in_progress: int
    oldest_due_s: float
    event_lag_s: float | None
    unarchived: int | None
    paused: dict[int, PortalPause]
    paused_calls: tuple[CallPause, ...] = ()
    complete: bool = True  # if False, `due`, `scheduled` and `in_progress` count only the first deliveries

    @property
    def backlog(self) -> int:
        """The number of all waiting deliveries."""
        return self.due + self.scheduled


async def queue_status(redis: Redis, portals: Portals, *, now_ms: int | None = None) -> Queue:
    """Return the state of the queue.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    now = clock.now_ms() if now_ms is None else now_ms
    paused, paused_calls = await visible_pauses(redis, portals)
    first = await waiting_deliveries(redis, portals)
    oldest = [entry.event.occurred_at for job in first for entry in job.delivery.entries]
    event_lag_s = max(0.0, (now - min(oldest)) / 1000) if oldest else None
    oldest_due_s = max(0.0, (now - min(job.due_at for job in first)) / 1000) if first else 0.0
    running = sum(job.in_progress for job in first)
    if portals is None:
        due = sum([await redis.zcount(queue, "-inf", now) for queue in QUEUES.values()])
        scheduled = await _queued_count(redis) - due
        return Queue(
            due,
            scheduled,
            running,
            oldest_due_s,
            event_lag_s,
            await backlog(redis),
            paused,
            paused_calls,
            len(first) == due + scheduled,
        )
    jobs = await _queued_ids(redis, portals, _MAX_IDS_READ)
    due = sum(at <= now for _, at in jobs)
    complete = len(jobs) <= len(first) or await _queued_count(redis) <= _MAX_IDS_READ
    return Queue(due, len(jobs) - due, running, oldest_due_s, event_lag_s, None, paused, paused_calls, complete)


async def visible_pauses(redis: Redis, portals: Portals) -> tuple[dict[int, PortalPause], tuple[CallPause, ...]]:
    """Return the paused portals, and the paused kinds of calls.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    paused = {portal: pause for portal, pause in (await PortalPauses(redis).list()).items() if can_see(portals, portal)}
    calls = tuple(pause for pause in await CallPauses(redis).list() if can_see(portals, pause.portal_id))
    return paused, calls


async def waiting_deliveries(
    redis: Redis, portals: Portals, *, limit: int = MAX_DELIVERIES_READ
) -> list[WaitingDelivery]:
    """Return the first deliveries of the queue, at most `limit`; unreadable jobs are left out.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    jobs = (await _queued_ids(redis, portals, limit if portals is None else _MAX_IDS_READ))[:limit]
    deliveries: list[WaitingDelivery] = []
    for start in range(0, len(jobs), _PAGE_SIZE):
        page = jobs[start : start + _PAGE_SIZE]
        deliveries += await _load_deliveries(redis, page)
    return deliveries


async def find_waiting(redis: Redis, ids: list[str]) -> list[WaitingDelivery]:
    """Return the deliveries with these ids that are in the queue.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    if not ids:
        return []
    due_at: dict[str, int] = {}
    for queue in QUEUES.values():
        scores = await redis.zmscore(queue, ids)
        due_at |= {job_id: int(at) for job_id, at in zip(ids, scores, strict=True) if at is not None}
    return await _load_deliveries(redis, [(job_id, due_at[job_id]) for job_id in ids if job_id in due_at])


async def _queued_count(redis: Redis) -> int:
    return sum([await redis.zcard(queue) for queue in QUEUES.values()])


async def _queued_ids(redis: Redis, portals: Portals, limit: int) -> list[tuple[str, int]]:
    scores: list[tuple[bytes, float]] = []
    for queue in QUEUES.values():
        scores += await redis.zrange(queue, 0, limit - 1, withscores=True)
    scores = sorted(scores, key=lambda score: score[1])[:limit]
    jobs = [(job_id.decode(errors="replace"), int(at)) for job_id, at in scores if math.isfinite(at)]
    return [(job_id, at) for job_id, at in jobs if portals is None or _portal_of(job_id) in portals]


def _portal_of(job_id: str) -> int:
    """Return the portal in a delivery's id; -1 for an unknown job."""
    portal = parse_number(job_id.partition("-")[0])
    return -1 if portal is None else portal


def _with_readable_entries(delivery: Delivery) -> Delivery:
    """Return a delivery without the entries that are no events, which a worker quarantines."""
    readable = tuple(entry for entry in delivery.entries if entry.is_event)
    return delivery if len(readable) == len(delivery.entries) else replace(delivery, entries=readable)


async def _load_deliveries(redis: Redis, jobs: list[tuple[str, int]]) -> list[WaitingDelivery]:
    if not jobs:
        return []
    async with redis.pipeline(transaction=False) as pipeline:
        pipeline.mget([JOB_KEY_PREFIX + job_id for job_id, _ in jobs])
        for job_id, _ in jobs:
            pipeline.exists(IN_PROGRESS_KEY_PREFIX + job_id)
        payloads, *running = await pipeline.execute()
    return [
        WaitingDelivery(_with_readable_entries(delivery), due_at, bool(busy))
        for (_, due_at), payload, busy in zip(jobs, payloads, running, strict=True)
        if payload is not None and not is_oversized(payload) and (delivery := read_job(payload))
    ]
