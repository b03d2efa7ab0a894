"""Delete what Redis holds on a CRM object (queued events, dead letters, ledgers, unreadable jobs) and record it.

`drop_events` removes events from queued deliveries; `portal_purge` uses it for those of a whole portal.

Dedupe marks of admitted events stay: they are bits of a keyed hash, expire, and make HubSpot's redeliveries duplicates.
"""

from dataclasses import asdict, dataclass, replace
from typing import Final, NamedTuple, Protocol

from redis.asyncio import Redis
from redis.exceptions import WatchError

from spokes.audit.records import Action, AuditRecord, Outcome, event_fields
from spokes.audit.stream import append
from spokes.core.clock import now_ms
from spokes.core.delivery import Delivery, Entry, job_payload
from spokes.core.events import Event
from spokes.core.redis import keys
from spokes.core.redis.keys import IN_PROGRESS_KEY_PREFIX, JOB_KEY_PREFIX, QUEUES, RETRY_KEY_PREFIX, SETTLED_TTL_S
from spokes.privacy.redis_data import DataSubject, find_data, read_job, with_merged_ids
from spokes.queue.dead_letters import DeadLetters
from spokes.queue.erased_objects import remember_erased
from spokes.queue.quarantine import Quarantine

_REASON: Final = "erased"


class JobKeys(NamedTuple):
    """A queue and the prefixes of its jobs' keys."""

    queues: tuple[str, ...]
    job_prefix: str
    in_progress_prefix: str
    retry_prefix: str


QUEUE_PLACE: Final = JobKeys(tuple(QUEUES.values()), JOB_KEY_PREFIX, IN_PROGRESS_KEY_PREFIX, RETRY_KEY_PREFIX)
DEFAULT_QUEUE_PLACE: Final = JobKeys(
    (keys.DEFAULT_QUEUE,),
    keys.DEFAULT_JOB_KEY_PREFIX,
    keys.DEFAULT_IN_PROGRESS_KEY_PREFIX,
    keys.DEFAULT_RETRY_KEY_PREFIX,
)


@dataclass(frozen=True, slots=True)
class PurgeCounts:
    """How much was deleted. `busy` deliveries are being run by a worker, so their events of the object remain."""

    events: int = 0
    dead_letters: int = 0
    ledgers: int = 0
    unreadable: int = 0
    quarantined: int = 0
    busy: int = 0


async def purge_object(redis: Redis, quarantine: Quarantine, event: Event, hash_key: bytes) -> None:
    """Delete the data on the event's object under all its ids, and schedule a second purge a little later."""
    portal_id, object_type = event.portal_id, event.object_type
    ids = await with_merged_ids(redis, portal_id, object_type, {event.object_id})
    await purge_subject(redis, DataSubject(portal_id, object_type, ids), quarantine, hash_key)
    # Workers may be running other deliveries with events of the object: the second purge deletes what they leave.
    scores = {f"{portal_id}:{object_type}:{object_id}": now_ms() for object_id in ids}
    await redis.zadd(keys.ERASED_OBJECTS, scores)


async def purge_subject(
    redis: Redis, subject: DataSubject, quarantine: Quarantine, hash_key: bytes, *, actor: str = "spokes"
) -> PurgeCounts:
    """Delete the data on an object, and write an audit record of the erasure for each of its ids.

    Its ids are remembered, hashed with `hash_key` (`object_hash_key`): late redeliveries of its events are discarded.

    Each delivery is rewritten in one transaction with the records of the events that it loses.

    Raises:
        RedisError, OSError: Redis does not answer; what was deleted before that stays deleted.
    """
    data = await find_data(redis, subject, quarantine)
    dropped = [
        await drop_events(redis, delivery.id, subject, actor, place)
        for place, deliveries in ((QUEUE_PLACE, data.deliveries), (DEFAULT_QUEUE_PLACE, data.in_default_queue))
        for delivery in deliveries
    ]
    events = sum(count for count in dropped if count is not None)
    letters = await DeadLetters(redis).discard(data.dead_letters, actor=actor, reason=_REASON)
    for content in data.quarantined:
        await quarantine.close(content, Outcome.DISCARDED, actor=actor, reason=_REASON)
    counts = PurgeCounts(
        events, letters, len(data.ledger_keys), len(data.unreadable_jobs), len(data.quarantined), dropped.count(None)
    )
    async with redis.pipeline(transaction=True) as pipeline:
        remember_erased(pipeline, hash_key, subject.portal_id, subject.object_type, subject.ids)
        if data.ledger_keys:
            pipeline.delete(*data.ledger_keys)
        for job in data.unreadable_jobs:
            pipeline.lrem(keys.UNREADABLE_JOBS, 0, job)  # type: ignore[arg-type]  # redis-py's type omits bytes
        for object_id in sorted(subject.ids):
            append(pipeline, _erasure_record(subject, object_id, counts, actor))
        await pipeline.execute()
    return counts


class EventSelection(Protocol):
    """Which entries of a portal's deliveries are to be removed."""

    @property
    def portal_id(self) -> int:
        """The portal of the entries."""

    def matching_entries(self, delivery: Delivery) -> tuple[Entry, ...]:
        """Return those of one delivery."""


async def drop_events(
    redis: Redis, delivery_id: str, selection: EventSelection, actor: str, place: JobKeys, *, reason: str = _REASON
) -> int | None:
    """Remove entries from a queued delivery, each with the record that it is discarded for `reason`.

    Return how many, None if a worker runs or changed the delivery.
    """
    job, settled = place.job_prefix + delivery_id, keys.settled_events(selection.portal_id, delivery_id)
    in_progress = place.in_progress_prefix + delivery_id
    async with redis.pipeline(transaction=True) as pipeline:
        await pipeline.watch(job, in_progress)
        delivery = read_job(await pipeline.get(job))
        if delivery is None:
            return 0
        if await pipeline.exists(in_progress):
            return None
        settled_keys = {key.decode() for key in await pipeline.smembers(settled)}  # type: ignore[misc]  # redis-py types one class for sync and async
        dropped = selection.matching_entries(delivery)
        remaining = tuple(entry for entry in delivery.entries if entry not in dropped)
        pipeline.multi()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        for entry in dropped:
            if entry.key not in settled_keys:
                append(pipeline, _discard_record(delivery, entry, actor, reason))
        if remaining:
            # A worker that lost its lease on the delivery may still be running it. It does not settle events that are
            # marked as settled here.
            pipeline.sadd(settled, *(entry.key for entry in dropped))
            pipeline.expire(settled, SETTLED_TTL_S)
            pipeline.set(job, job_payload(replace(delivery, entries=remaining), now_ms()))
        else:
            pipeline.delete(job, settled, place.retry_prefix + delivery_id)
            for queue in place.queues:
                pipeline.zrem(queue, delivery_id)
        try:
            await pipeline.execute()
        except WatchError:
            return None
    return len(dropped)


def _discard_record(delivery: Delivery, entry: Entry, actor: str, reason: str) -> AuditRecord:
    if not entry.is_event:
        return AuditRecord(
            action=Action.EVENT, outcome=Outcome.DISCARDED, portal_id=delivery.portal_id, delivery_id=delivery.id,
            event_key=entry.event_key, attempt=entry.attempt, reason=reason, actor=actor, handler=entry.handler,
        )  # fmt: skip
    fields = event_fields(
        entry.event,
        Outcome.DISCARDED,
        key=entry.event_key,
        delivery_id=delivery.id,
        attempt=entry.attempt,
        reason=reason,
        handler=entry.handler,
        actor=actor,
    )
    return AuditRecord(**fields)


def _erasure_record(subject: DataSubject, object_id: str, counts: PurgeCounts, actor: str) -> AuditRecord:
    """Return the record of an erasure; it contains the id only until it is archived."""
    return AuditRecord(
        action=Action.PRIVACY_ERASED,
        portal_id=subject.portal_id,
        object_type=subject.object_type,
        object_id=object_id,
        actor=actor,
        detail={name: count for name, count in asdict(counts).items() if name != "busy"},
    )
