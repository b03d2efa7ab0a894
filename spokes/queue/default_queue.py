"""Take over our jobs from arq's default queue, which earlier versions of Spokes used.

Another arq application may use that queue too: its jobs are left alone and reported. A job is ours if our codec can
decode it and it names our job function.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Final, NamedTuple

import structlog
from redis.asyncio import Redis

from spokes.core.delivery import JOB_NAME, Delivery, decode
from spokes.core.errors import UnreadableDelivery
from spokes.core.priority import Priority
from spokes.core.redis import keys
from spokes.core.redis.outage import RedisOutage
from spokes.core.redis.scripts import read_script

_SCRIPT: Final = read_script(__file__, "take_over.lua")
_PAGE_SIZE: Final = 200  # jobs moved by one script call
_MAX_JOBS_READ: Final = 20_000  # in one round
_UPGRADE_INTERVAL_S: Final = 0.5  # while processes of an earlier version may queue jobs
_IDLE_INTERVAL_S: Final = 30.0
_UPGRADE_S: Final = 3600.0  # after the start of this process, and after each job that was taken over
_MAX_KNOWN_FOREIGN: Final = 100_000
_PREFIXES: Final = (
    keys.DEFAULT_JOB_KEY_PREFIX,
    keys.DEFAULT_RETRY_KEY_PREFIX,
    keys.DEFAULT_IN_PROGRESS_KEY_PREFIX,
    keys.JOB_KEY_PREFIX,
    keys.RETRY_KEY_PREFIX,
)
log = structlog.get_logger()


class DefaultQueueJobs(NamedTuple):
    """Ids of the jobs in arq's default queue, by owner; ours with their priority classes."""

    ours: Mapping[bytes, Priority]
    foreign: list[bytes]


class DefaultQueueWatch:
    """Takes over our jobs from arq's default queue, and reports foreign ones once."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._script = redis.register_script(_SCRIPT)
        self._known_foreign: set[bytes] = set()  # not read again
        self._is_reported = False

    async def run(self, outage: RedisOutage, task: str) -> None:
        """Take over jobs until cancelled: often during an upgrade, rarely afterwards. `task` is for `outage`."""
        upgrade_until = time.monotonic() + _UPGRADE_S
        while True:
            if await self.take_over():
                upgrade_until = time.monotonic() + _UPGRADE_S
            outage.mark_available(task)
            is_upgrade = time.monotonic() < upgrade_until
            await asyncio.sleep(_UPGRADE_INTERVAL_S if is_upgrade else _IDLE_INTERVAL_S)

    async def take_over(self) -> int:
        """Move our jobs into our queue, unless a worker of an earlier version holds them; return how many."""
        moved = 0
        async for page in _pages(self._redis, self._known_foreign):
            for priority, queue in keys.QUEUES.items():
                if ids := [name for name, own in page.ours.items() if own == priority]:
                    names = [keys.DEFAULT_QUEUE, queue, keys.WAKE_CHANNEL]
                    moved += int(await self._script(keys=names, args=[*_PREFIXES, *ids]))
            if len(self._known_foreign) < _MAX_KNOWN_FOREIGN:
                self._known_foreign.update(page.foreign)
            self._report(len(page.foreign))
        if moved:
            log.info("jobs_taken_over", queue=keys.DEFAULT_QUEUE, jobs=moved)
        return moved

    def _report(self, foreign: int) -> None:
        if foreign and not self._is_reported:
            self._is_reported = True
            log.warning("foreign_jobs", queue=keys.DEFAULT_QUEUE, jobs=foreign, advice=FOREIGN_ADVICE)


FOREIGN_ADVICE: Final = (
    "Another arq application uses this Redis database. Its jobs are left alone; give it a database of its own, so that "
    "a full or flushed database concerns one application only."
)


async def read_default_queue(redis: Redis) -> DefaultQueueJobs:
    """Return the jobs in arq's default queue."""
    ours: dict[bytes, Priority] = {}
    foreign: list[bytes] = []
    async for page in _pages(redis, frozenset()):
        ours.update(page.ours)
        foreign += page.foreign
    return DefaultQueueJobs(ours, foreign)


async def _pages(redis: Redis, skipped: set[bytes] | frozenset[bytes]) -> AsyncIterator[DefaultQueueJobs]:
    """Yield the jobs in arq's default queue that are not `skipped`, page by page."""
    if await redis.type(keys.DEFAULT_QUEUE) != b"zset":  # absent, or another application's
        return
    names: list[bytes] = await redis.zrange(keys.DEFAULT_QUEUE, 0, _MAX_JOBS_READ - 1)
    unknown = [name for name in names if name not in skipped]
    for start in range(0, len(unknown), _PAGE_SIZE):
        page = unknown[start : start + _PAGE_SIZE]
        payloads = await redis.mget([keys.DEFAULT_JOB_KEY_PREFIX.encode() + name for name in page])
        # A job without a payload has expired or was closed since: it is of no use to anybody, and stays.
        present = [(name, payload) for name, payload in zip(page, payloads, strict=True) if payload is not None]
        ours = {name: priority for name, payload in present if (priority := job_priority(payload)) is not None}
        foreign = set(ours).symmetric_difference(name for name, _ in present)
        yield DefaultQueueJobs(ours, sorted(foreign))


def job_priority(payload: bytes) -> Priority | None:
    """Return the priority class of a job that carries a delivery; None if our codec cannot decode it, or it is another.

    A delivery that is unreadable otherwise is interactive: the worker sets it aside.
    """
    try:
        job = decode(payload)
    except UnreadableDelivery:
        return None
    arguments = job.get("a")
    if job.get("f") != JOB_NAME or not isinstance(arguments, list) or len(arguments) != 1:
        return None
    try:
        return Delivery.from_job(arguments[0]).priority
    except UnreadableDelivery:
        return "interactive"
