"""Periodic jobs: anomaly watches, erasures, retention. One process runs a job, once per period.

An interrupted job runs again in the same period, in any worker.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.audit.alerts.bad_items import read_items
from spokes.audit.object_hashes import object_hash_key
from spokes.audit.records import Action, AuditRecord
from spokes.audit.retention import purge
from spokes.audit.sql import partitions
from spokes.audit.sql.engine import open_engine
from spokes.audit.stream import append_now
from spokes.core import clock
from spokes.core.errors import SpokesError
from spokes.core.master_key import load_master_key
from spokes.core.redis import keys
from spokes.core.redis.errors import RedisFault, classify, first_word
from spokes.core.redis.keys import AUDIT_STREAM
from spokes.core.redis.leader_lock import acquire_lease
from spokes.core.redis.outage import RedisOutage
from spokes.core.settings import Settings
from spokes.core.telemetry.setup import report_error
from spokes.privacy.erasure import Erasures
from spokes.privacy.portal_erasure import PortalErasures
from spokes.privacy.redis_data import DataSubject, find_data
from spokes.privacy.redis_purge import purge_subject
from spokes.queue.dead_letter_index import DeadLetterIndex
from spokes.queue.dead_letters import DeadLetters
from spokes.queue.quarantine import Quarantine
from spokes.queue.unreadable_jobs import adopt_unreadable_jobs, delete_before
from workers.queue.foreign_values import queue_jobs_again
from workers.upkeep import anomaly_watch as watch
from workers.upkeep.chain_watch import push_checkpoint, verify_chain
from workers.upkeep.gaps.gap_watch import watch_gaps, watch_silence
from workers.upkeep.gaps.lost_events import watch_lost_events
from workers.upkeep.gaps.redeliveries import prove_redeliveries
from workers.upkeep.gaps.subscription_watch import watch_subscriptions
from workers.upkeep.journal_watch import watch_journal
from workers.upkeep.portal_lifecycles import APPLY_EVERY_S, apply_lifecycles
from workers.upkeep.portal_settings import publish_profiles
from workers.upkeep.portal_uninstalls import CHECK_EVERY_S, RevokedPortals, check_idle_portals

if TYPE_CHECKING:
    from spokes.crm.services import CRM

_CHECK_EVERY_S: Final = 5.0  # for jobs that are due
_LOCK_TTL_S: Final = 600  # an interrupted job can run again after this
_ERASURE_SETTLE_MS: Final = 120_000  # events of an erased object may still be in progress during this time
_DAY_S: Final = 86_400
_NIGHT_OFFSET_S: Final = 3 * 3600  # UTC
_VERIFICATION_OFFSET_S: Final = 4 * 3600  # UTC; after retention
log = structlog.get_logger()


class PeriodicJob(NamedTuple):
    """A job that runs once in each period of `every_s` seconds, `offset_s` seconds into it.

    `on_first_start`: also in the period in which the first worker ever started.
    """

    name: str
    every_s: int
    run: Callable[[], Awaitable[None]]
    offset_s: int = 0
    on_first_start: bool = True

    def period(self, now_s: float) -> int:
        """Return the number of the current period."""
        return int(now_s - self.offset_s) // self.every_s


async def run_schedule(settings: Settings, redis: Redis, crm: "CRM", outage: RedisOutage, task: str) -> None:
    """Run periodic jobs until cancelled; `redis` and `crm` stay the caller's to close. `task` is for `outage`.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    engine = open_engine(settings.database_address)
    try:
        periodic_jobs = jobs(settings, redis, engine, crm)
        while True:
            for job in periodic_jobs:
                await run_if_due(redis, job)
            outage.mark_available(task)
            await asyncio.sleep(_CHECK_EVERY_S)
    finally:
        await engine.dispose()


def jobs(settings: Settings, redis: Redis, engine: AsyncEngine, crm: "CRM") -> list[PeriodicJob]:
    """Return all periodic jobs."""
    episodes = AlertEpisodes(redis)
    revoked = RevokedPortals(settings, redis, engine)
    erasures = Erasures(settings, redis, engine, crm, actor="spokes")

    async def resume_erasures() -> None:
        await erasures.resume()
        await watch.watch_requests(engine, episodes)

    async def follow_lifecycles() -> None:
        await apply_lifecycles(settings, redis, engine)
        await revoked.queue_events()

    return [
        PeriodicJob("backlog", 10, lambda: watch.watch_backlog(settings, redis, episodes)),
        PeriodicJob("running", 10, lambda: watch.watch_running(redis, episodes)),
        PeriodicJob("journal", 60, lambda: watch_journal(redis, episodes)),
        PeriodicJob("lifecycles", APPLY_EVERY_S, follow_lifecycles),
        PeriodicJob("forgotten", 60, lambda: purge_erased_again(settings, redis)),
        PeriodicJob("tokens", 60, lambda: watch.watch_tokens(settings, redis, episodes)),
        PeriodicJob("volumes", 300, lambda: watch.watch_volumes(settings, redis, engine, episodes)),
        PeriodicJob("jobs", 3600, partial(queue_jobs_again, redis)),
        PeriodicJob("lost", 3600, lambda: watch_lost_events(settings, redis, engine, episodes)),
        *_gap_jobs(settings, redis, engine, crm, episodes),
        PeriodicJob("erasures", 3600, resume_erasures),
        *(_portal_jobs(settings, redis, engine, crm) if settings.hubspot_client_id else []),
        PeriodicJob("portal settings", 60, lambda: publish_profiles(settings, redis, engine)),
        *_audit_jobs(settings, redis, engine, episodes),
    ]


def _gap_jobs(
    settings: Settings, redis: Redis, engine: AsyncEngine, crm: "CRM", episodes: AlertEpisodes
) -> list[PeriodicJob]:
    return [
        PeriodicJob("gaps", 10, lambda: watch_gaps(settings, redis, engine, episodes, crm.served_portals)),
        PeriodicJob("redeliveries", 60, lambda: prove_redeliveries(redis)),
        PeriodicJob("silence", 3600, lambda: watch_silence(settings, engine)),
        PeriodicJob(
            "subscriptions",
            600,
            lambda: watch_subscriptions(settings, redis, engine, episodes, crm.served_portals),
        ),
    ]


def _portal_jobs(settings: Settings, redis: Redis, engine: AsyncEngine, crm: "CRM") -> list[PeriodicJob]:
    """Return the jobs for portals that installed the app."""

    async def erase_portals() -> None:
        await PortalErasures(settings, redis, engine).run()

    return [
        PeriodicJob("idle portals", CHECK_EVERY_S, lambda: check_idle_portals(settings, engine, crm.credentials)),
        PeriodicJob("portal erasures", 60, erase_portals),
    ]


def _audit_jobs(settings: Settings, redis: Redis, engine: AsyncEngine, episodes: AlertEpisodes) -> list[PeriodicJob]:
    """Return the jobs that check and shorten the audit, and that watch the age of secrets."""
    return [
        PeriodicJob("checkpoint", 3600, lambda: push_checkpoint(settings, engine, episodes)),
        PeriodicJob(
            "verification",
            _DAY_S,
            lambda: verify_chain(settings, redis, engine, episodes),
            _VERIFICATION_OFFSET_S,
            on_first_start=False,
        ),
        PeriodicJob("secrets", 3600, lambda: watch.watch_secrets(settings, redis, episodes)),
        PeriodicJob(
            "retention", _DAY_S, lambda: purge_expired(settings, redis, engine), _NIGHT_OFFSET_S, on_first_start=False
        ),
    ]


async def run_if_due(redis: Redis, job: PeriodicJob) -> bool:
    """Run a job unless it ran in this period or is running; return whether it ran now.

    A failure is logged, and the job runs again once its lock has expired.

    Raises:
        RedisError: Redis does not answer. A full Redis is a failure of the job: others may free memory.
    """
    try:
        return await _try_start(redis, job) and await _run_and_record(redis, job)
    except RedisError as error:
        if classify(error) in {RedisFault.OUTAGE, RedisFault.UNUSABLE}:
            raise
        log.warning("job_failed", job=job.name, error=first_word(error))
    except (SpokesError, OSError) as error:
        log.warning("job_failed", job=job.name, error=type(error).__name__)
    except Exception as error:  # a bug in one job must not stop the others
        report_error(error, job=job.name)
        log.exception("job_failed", job=job.name)
    return False


async def _try_start(redis: Redis, job: PeriodicJob) -> bool:
    """Return whether the job is due and we hold its lock."""
    done, lock = _key_names(job)
    period = str(job.period(time.time()))
    last = await redis.get(done)
    if last is None:
        await redis.set(done, "" if job.on_first_start else period, nx=True)
        last = await redis.get(done)
    if last == period.encode():
        return False
    if not await acquire_lease(redis, lock, secrets.token_hex(8), lease_ms=min(_LOCK_TTL_S, job.every_s) * 1000):
        return False
    if await redis.get(done) != period.encode():
        return True
    await redis.delete(lock)  # another worker finished it between the two reads
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
    """Return the key of the last period in which the job ran, and the key of its lock."""
    return keys.periodic_job(job.name), keys.periodic_job_lock(job.name)


async def purge_erased_again(settings: Settings, redis: Redis) -> None:
    """Purge recently erased objects again; forget each once no data is found."""
    quarantine = Quarantine.from_settings(redis, settings)
    until_ms = clock.now_ms() - _ERASURE_SETTLE_MS
    members = await redis.zrangebyscore(keys.ERASED_OBJECTS, 0, until_ms)
    for member, subject in await read_items(redis, "erased_object", members, _read_erased_object):
        if await find_data(redis, subject, quarantine):
            await purge_subject(redis, subject, quarantine, object_hash_key(load_master_key(settings)))
        else:
            await redis.zrem(keys.ERASED_OBJECTS, member)


def _read_erased_object(member: bytes) -> tuple[bytes, DataSubject]:
    portal_id, object_type, object_id = member.decode().split(":", 2)
    return member, DataSubject(int(portal_id), object_type, frozenset({object_id}))


async def purge_expired(settings: Settings, redis: Redis, engine: AsyncEngine) -> None:
    """Delete what has reached its retention period, and record how much it was.

    Dead letters and dedupe marks expire by themselves; here the letters are removed from their indexes. A record that
    could not be archived within STREAM_DAYS is deleted from the stream, and counted.
    """
    now_ms = clock.now_ms()
    created = await partitions.create_missing(engine)
    records = await purge(engine, load_master_key(settings), before_ms=now_ms - settings.audit_days * _DAY_S * 1000)
    letters = DeadLetters(redis)
    oldest_ms = now_ms - settings.dead_letter_days * _DAY_S * 1000
    indexed = [await DeadLetterIndex(redis, portal).remove_before(oldest_ms) for portal in await letters.portals()]
    quarantine = Quarantine.from_settings(redis, settings)
    unreadable = await delete_before(redis, oldest_ms)
    await adopt_unreadable_jobs(redis, quarantine)
    quarantined = await quarantine.delete_before(oldest_ms)
    unarchived = await redis.xtrim(AUDIT_STREAM, minid=now_ms - settings.stream_days * _DAY_S * 1000, approximate=False)
    detail = {
        "audit": records, "dead_letters": sum(indexed), "unreadable": unreadable,
        "quarantined": quarantined, "stream": unarchived,
        "partitions_made": created, "audit_days": settings.audit_days, "dead_letter_days": settings.dead_letter_days,
        "dedupe_hours": settings.dedupe_hours, "stream_days": settings.stream_days,
    }  # fmt: skip
    await append_now(redis, AuditRecord(action=Action.RETENTION, portal_id=0, detail=detail))
    log.info("retention", **detail)
