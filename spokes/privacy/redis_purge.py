"""Erase what Redis holds on a CRM object: events, letters, ledgers, unreadable jobs. Rule: the erasure is recorded.

Marks of admitted events stay: they are bits of a keyed hash, end by themselves, and keep HubSpot's redeliveries out.
"""

from dataclasses import asdict, dataclass, replace
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import WatchError

from spokes.audit.records import Action, AuditRecord, Outcome, event_fields
from spokes.audit.stream import append
from spokes.core import clock
from spokes.core.delivery import JOB_KEY_PREFIX, JOB_QUEUE, Delivery, Entry, job_payload
from spokes.core.events import Event
from spokes.core.redis import keys
from spokes.core.redis.keys import SETTLED_TTL_S
from spokes.privacy.redis_data import DataSubject, find_data, read_job, with_merged_ids
from spokes.queue.dead_letters import DeadLetters

_REASON: Final = "erased"
_IN_PROGRESS_PREFIX: Final = "arq:in-progress:"  # arq's own name for the lease on a job
_RETRY_PREFIX: Final = "arq:retry:"  # and for how often it was tried


@dataclass(frozen=True, slots=True)
class PurgeCounts:
    """How much was erased; `busy` deliveries are being worked on, so their events of the object are still there."""

    events: int = 0
    dead_letters: int = 0
    ledgers: int = 0
    unreadable: int = 0
    busy: int = 0


async def purge_object(redis: Redis, event: Event) -> None:
    """Erase what is held on the event's object under all its ids, and have the worker look again a little later."""
    portal_id, object_type = event.portal_id, event.object_type
    ids = await with_merged_ids(redis, portal_id, object_type, {event.object_id})
    await purge_subject(redis, DataSubject(portal_id, object_type, ids))
    # Events of the object may have been under way in other deliveries; what became of them is looked for again.
    names = {f"{portal_id}:{object_type}:{object_id}": clock.now_ms() for object_id in ids}
    await redis.zadd(keys.ERASED_OBJECTS, names)


async def purge_subject(redis: Redis, subject: DataSubject, *, actor: str = "spokes") -> PurgeCounts:
    """Erase what is held on an object, and record of each of its ids that it was erased.

    Each delivery is rewritten in one transaction with the records of the events that leave it.

    Raises:
        RedisError, OSError: Redis does not answer; what is erased by then stays erased.
    """
    held = await find_data(redis, subject)
    dropped = [await _drop_events(redis, delivery.id, subject, actor) for delivery in held.deliveries]
    events = sum(count for count in dropped if count is not None)
    letters = await DeadLetters(redis).discard(held.dead_letters, actor=actor, reason=_REASON)
    done = PurgeCounts(events, letters, len(held.ledger_keys), len(held.unreadable_jobs), dropped.count(None))
    async with redis.pipeline(transaction=True) as pipeline:
        if held.ledger_keys:
            pipeline.delete(*held.ledger_keys)
        for job in held.unreadable_jobs:
            pipeline.lrem(keys.UNREADABLE_JOBS, 0, job)  # type: ignore[arg-type]  # redis-py forgets bytes
        for object_id in sorted(subject.ids):
            append(pipeline, _erasure_record(subject, object_id, done, actor))
        await pipeline.execute()
    return done


async def _drop_events(redis: Redis, delivery_id: str, subject: DataSubject, actor: str) -> int | None:
    """Rewrite a queued delivery without the object's events; None when a worker has it or it has just changed."""
    job, settled = JOB_KEY_PREFIX + delivery_id, keys.settled_events(subject.portal_id, delivery_id)
    async with redis.pipeline(transaction=True) as pipeline:
        await pipeline.watch(job, _IN_PROGRESS_PREFIX + delivery_id)
        delivery = read_job(await pipeline.get(job))
        if delivery is None:
            return 0
        if await pipeline.exists(_IN_PROGRESS_PREFIX + delivery_id):
            return None
        ended = {key.decode() for key in await pipeline.smembers(settled)}  # type: ignore[misc]  # redis-py types one class for sync and async
        gone = subject.matching_entries(delivery)
        left = tuple(entry for entry in delivery.entries if entry not in gone)
        pipeline.multi()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        for entry in gone:
            if entry.key not in ended:
                append(pipeline, _discard_record(delivery, entry, actor))
        if left:
            # Whoever lost its lease on the delivery may still be at it; what it settles of these is left out.
            pipeline.sadd(settled, *(entry.key for entry in gone))
            pipeline.expire(settled, SETTLED_TTL_S)
            pipeline.set(job, job_payload(replace(delivery, entries=left), clock.now_ms()))
        else:
            pipeline.delete(job, settled, _RETRY_PREFIX + delivery_id)
            pipeline.zrem(JOB_QUEUE, delivery_id)
        try:
            await pipeline.execute()
        except WatchError:
            return None
    return len(gone)


def _discard_record(delivery: Delivery, entry: Entry, actor: str) -> AuditRecord:
    told = event_fields(
        entry.event,
        Outcome.DISCARDED,
        key=entry.key,
        delivery_id=delivery.id,
        attempt=entry.attempt,
        reason=_REASON,
        actor=actor,
    )
    return AuditRecord(**told)


def _erasure_record(subject: DataSubject, object_id: str, counts: PurgeCounts, actor: str) -> AuditRecord:
    """The record of an erasure; it names the id only until it is archived."""
    return AuditRecord(
        action=Action.PRIVACY_ERASED,
        portal_id=subject.portal_id,
        object_type=subject.object_type,
        object_id=object_id,
        actor=actor,
        detail={name: count for name, count in asdict(counts).items() if name != "busy"},
    )
