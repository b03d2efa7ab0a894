"""What is done now and then: watching, erasures, retention. Rule: one process at a time does a job, and once a period.

A job that was cut off is done again in the same period, by whoever is there.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.alert_episodes import AlertEpisodes
from spokes.audit.records import Action, AuditRecord
from spokes.audit.retention import purge
from spokes.audit.sql import partitions
from spokes.audit.sql.engine import open_engine
from spokes.audit.stream import append_now
from spokes.core import clock
from spokes.core.delivery import AUDIT_STREAM
from spokes.core.errors import SpokesError
from spokes.core.redis import keys
from spokes.core.settings import Settings
from spokes.core.telemetry.setup import report_error
from spokes.privacy.erasure import Erasures
from spokes.privacy.redis_data import DataSubject, find_data
from spokes.privacy.redis_purge import purge_subject
from spokes.queue.dead_letter_index import DeadLetterIndex
from spokes.queue.dead_letters import DeadLetters
from spokes.queue.unreadable_jobs import delete_before
from workers.upkeep import anomaly_watch as watch

if TYPE_CHECKING:
    from spokes.crm.services import CRM

_CHECK_EVERY_S: Final = 5.0  # between two looks at what is due
_LOCK_TTL_S: Final = 600  # after which a job that was cut off may be done by another
_ERASURE_SETTLE_MS: Final = 120_000  # events of an erased object may be under way for so long
_DAY_S: Final = 86_400
_NIGHT_OFFSET_S: Final = 3 * 3600  # UTC
log = structlog.get_logger()


class PeriodicJob(NamedTuple):
    """Something to do once in each period of `every_s` seconds, `after_s` seconds into it.

    `at_first`: also in the period in which the first worker ever started.
    """

    name: str
    every_s: int
    run: Callable[[], Awaitable[None]]
    offset_s: int = 0
    on_first_start: bool = True

    def period(self, now_s: float) -> int:
        """The number of the period that is under way."""
        return int(now_s - self.offset_s) // self.every_s


def tasks(settings: Settings, redis: Redis, crm: "CRM") -> list[Coroutine[None, None, None]]:
    """Return what a worker process runs until it ends; `redis` and `crm` stay the caller's to close."""
    return [_run(settings, redis, crm)]


async def _run(settings: Settings, redis: Redis, crm: "CRM") -> None:
    engine = open_engine(settings.database_address)
    try:
        due = jobs(settings, redis, engine, crm)
        while True:
            for job in due:
                await run_if_due(redis, job)
            await asyncio.sleep(_CHECK_EVERY_S)
    finally:
        await engine.dispose()


def jobs(settings: Settings, redis: Redis, engine: AsyncEngine, crm: "CRM") -> list[PeriodicJob]:
    """Return all there is to do; reading this list is reading what happens by itself."""
    episodes = AlertEpisodes(redis)
    erasures = Erasures(settings, redis, engine, crm, actor="spokes")

    async def resume() -> None:
        await erasures.resume()
        await watch.watch_requests(engine, episodes)

    return [
        PeriodicJob("backlog", 10, lambda: watch.watch_backlog(settings, redis, episodes)),
        PeriodicJob("forgotten", 60, lambda: purge_erased_again(redis)),
        PeriodicJob("tokens", 60, lambda: watch.watch_tokens(settings, redis, episodes)),
        PeriodicJob("volumes", 300, lambda: watch.watch_volumes(settings, redis, engine, episodes)),
        PeriodicJob("erasures", 3600, resume),
        PeriodicJob("secrets", 3600, lambda: watch.watch_secrets(settings, redis, episodes)),
        PeriodicJob(
            "retention", _DAY_S, lambda: purge_expired(settings, redis, engine), _NIGHT_OFFSET_S, on_first_start=False
        ),
    ]


async def run_if_due(redis: Redis, job: PeriodicJob) -> bool:
    """Do a job unless it was done in this period or is being done; return whether it was done now.

    A failure is told, and tried again once the lock has ended.
    """
    try:
        return await _try_start(redis, job) and await _run_and_record(redis, job)
    except (SpokesError, RedisError, OSError) as error:
        log.warning("job_failed", job=job.name, error=type(error).__name__)
    except Exception as error:  # one job's fault must not end the others
        report_error(error, job=job.name)
        log.exception("job_failed", job=job.name)
    return False


async def _try_start(redis: Redis, job: PeriodicJob) -> bool:
    """Return whether the job is due and ours to do."""
    done, lock = _key_names(job)
    period = str(job.period(time.time()))
    if await redis.set(done, "" if job.on_first_start else period, nx=True) and not job.on_first_start:
        return False
    if await redis.get(done) == period.encode():
        return False
    if not await redis.set(lock, 1, nx=True, ex=min(_LOCK_TTL_S, job.every_s)):
        return False
    if await redis.get(done) != period.encode():
        return True
    await redis.delete(lock)  # another has ended between the two questions
    return False


async def _run_and_record(redis: Redis, job: PeriodicJob) -> bool:
    done, lock = _key_names(job)
    period = str(job.period(time.time()))
    await job.run()
    async with redis.pipeline(transaction=True) as pipeline:
        pipeline.set(done, period)
        pipeline.delete(lock)
        await pipeline.execute()
    return True


def _key_names(job: PeriodicJob) -> tuple[str, str]:
    """The keys that say in which period a job was last done, and that it is being done."""
    return f"spokes:schedule:{job.name}", f"spokes:schedule:{job.name}:lock"


async def purge_erased_again(redis: Redis) -> None:
    """Look again for objects that were erased a while ago; what is found nowhere is looked for no more."""
    until = clock.now_ms() - _ERASURE_SETTLE_MS
    for name in await redis.zrangebyscore(keys.ERASED_OBJECTS, 0, until):
        portal_id, object_type, object_id = name.decode().split(":", 2)
        subject = DataSubject(int(portal_id), object_type, frozenset({object_id}))
        if await find_data(redis, subject):
            await purge_subject(redis, subject)
        else:
            await redis.zrem(keys.ERASED_OBJECTS, name)


async def purge_expired(settings: Settings, redis: Redis, engine: AsyncEngine) -> None:
    """Purge what was kept for its time, and record how much it was.

    Dead letters and marks of events end by themselves; here their traces in indexes go. A record that has waited in
    Redis for a store that never came back is given up after STREAM_DAYS, and counted.
    """
    now_ms = clock.now_ms()
    created = await partitions.create_missing(engine)
    records = await purge(engine, settings.master_key(), before_ms=now_ms - settings.audit_days * _DAY_S * 1000)
    letters = DeadLetters(redis)
    oldest = now_ms - settings.dead_letter_days * _DAY_S * 1000
    indexed = [await DeadLetterIndex(redis, portal).remove_before(oldest) for portal in await letters.portals()]
    unreadable = await delete_before(redis, oldest)
    given_up = await redis.xtrim(AUDIT_STREAM, minid=now_ms - settings.stream_days * _DAY_S * 1000, approximate=False)
    detail = {
        "audit": records, "dead_letters": sum(indexed), "unreadable": unreadable, "stream": given_up,
        "partitions_made": created, "audit_days": settings.audit_days, "dead_letter_days": settings.dead_letter_days,
        "dedupe_hours": settings.dedupe_hours, "stream_days": settings.stream_days,
    }  # fmt: skip
    await append_now(redis, AuditRecord(action=Action.RETENTION, portal_id=0, detail=detail))
    log.info("retention", **detail)
