"""Find everything Redis holds on one CRM object, under every id that it has had before merges. Only reads."""

import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Final

from redis.asyncio import Redis

from spokes.core.delivery import Delivery, Entry, decode
from spokes.core.errors import UnreadableDelivery
from spokes.core.events import Event
from spokes.core.redis import keys
from spokes.core.redis.keys import DEFAULT_JOB_KEY_PREFIX, DEFAULT_QUEUE, JOB_KEY_PREFIX, QUEUES
from spokes.queue.dead_letters import DeadLetter, DeadLetters
from spokes.queue.quarantine import Quarantine, QuarantinedContent
from spokes.queue.unreadable_jobs import find_mentioning

_JOBS_PER_PAGE: Final = 200
_SCAN_COUNT: Final = 1000  # keys


@dataclass(frozen=True, slots=True)
class DataSubject:
    """A CRM object under every id it has had."""

    portal_id: int
    object_type: str
    ids: frozenset[str]

    def matches(self, event: Event) -> bool:
        """Return whether an event is about the object; a privacyDeletion never matches, because it must still run."""
        if event.portal_id != self.portal_id or event.kind == "privacyDeletion":
            return False
        return event.concerns(self.object_type, self.ids)

    def matching_entries(self, delivery: Delivery) -> tuple[Entry, ...]:
        """Return the entries of a delivery whose event is about the object."""
        if delivery.portal_id != self.portal_id:
            return ()
        return tuple(entry for entry in delivery.entries if self.matches_entry(entry))

    def matches_entry(self, entry: Entry) -> bool:
        """Return whether an entry is about the object; an unreadable one is if it mentions one of the ids."""
        try:
            return self.matches(entry.event)
        except UnreadableDelivery:
            return any(re.search(rf"(?<!\d){re.escape(id_)}(?!\d)", repr(entry.raw)) for id_ in self.ids)


@dataclass(frozen=True, slots=True)
class RedisData:
    """What Redis holds on an object: queued deliveries, dead letters, keys of ledgers and marks, unreadable jobs."""

    deliveries: tuple[Delivery, ...] = ()
    in_default_queue: tuple[Delivery, ...] = ()  # deliveries of earlier versions
    dead_letters: tuple[DeadLetter, ...] = ()
    ledger_keys: tuple[bytes, ...] = field(default=(), repr=False)
    unreadable_jobs: tuple[bytes, ...] = field(default=(), repr=False)
    quarantined: tuple[QuarantinedContent, ...] = field(default=(), repr=False)

    def __bool__(self) -> bool:
        jobs = self.deliveries or self.in_default_queue or self.unreadable_jobs
        return bool(jobs or self.dead_letters or self.ledger_keys or self.quarantined)


async def find_data(redis: Redis, subject: DataSubject, quarantine: Quarantine) -> RedisData:
    """Search queue, dead letters, key names, unreadable jobs and quarantined contents.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    deliveries = tuple([delivery async for delivery in queued_deliveries(redis) if subject.matching_entries(delivery)])
    in_default_queue = tuple(
        [delivery async for delivery in default_queue_deliveries(redis) if subject.matching_entries(delivery)]
    )
    all_letters = DeadLetters(redis).list(subject.portal_id)
    dead_letters = tuple([letter async for letter in all_letters if subject.matches_entry(letter.entry)])
    ledger_keys = tuple([name async for name in _ledger_keys(redis, subject)])
    unreadable_jobs = tuple(await find_mentioning(redis, subject.ids))
    quarantined = await quarantine.mentioning(subject.portal_id, subject.ids)
    return RedisData(deliveries, in_default_queue, dead_letters, ledger_keys, unreadable_jobs, quarantined)


async def queued_deliveries(redis: Redis) -> AsyncIterator[Delivery]:
    """Yield the deliveries in the queues, without unreadable jobs."""
    for queue in QUEUES.values():
        async for delivery in _deliveries_in(redis, queue, JOB_KEY_PREFIX):
            yield delivery


async def default_queue_deliveries(redis: Redis) -> AsyncIterator[Delivery]:
    """Yield the deliveries of earlier versions in arq's default queue."""
    if await redis.type(DEFAULT_QUEUE) == b"zset":
        async for delivery in _deliveries_in(redis, DEFAULT_QUEUE, DEFAULT_JOB_KEY_PREFIX):
            yield delivery


async def _deliveries_in(redis: Redis, queue: str, prefix: str) -> AsyncIterator[Delivery]:
    names = await redis.zrange(queue, 0, -1)
    for start in range(0, len(names), _JOBS_PER_PAGE):
        page = names[start : start + _JOBS_PER_PAGE]
        for payload in await redis.mget([prefix.encode() + name for name in page]):
            if delivery := read_job(payload):
                yield delivery


def read_job(payload: bytes | None) -> Delivery | None:
    """Return the delivery in a job's bytes; None if there is no job or it is unreadable."""
    try:
        return None if payload is None else Delivery.from_job(decode(payload)["a"][0])
    except (UnreadableDelivery, LookupError, TypeError):
        return None


async def with_merged_ids(redis: Redis, portal_id: int, object_type: str, ids: Iterable[str]) -> frozenset[str]:
    """Return `ids` and every id that was merged into one of them, according to the merge map in Redis."""
    prefix = keys.surviving_id(portal_id, object_type, "")
    surviving_ids: dict[str, str] = {}  # by merged id
    async for name in redis.scan_iter(match=f"{prefix}*", count=_SCAN_COUNT):
        if (surviving_id := await redis.get(name)) is not None:
            surviving_ids[name.decode(errors="replace").removeprefix(prefix)] = surviving_id.decode(errors="replace")
    known = set(ids)
    while more := {merged for merged, survivor in surviving_ids.items() if survivor in known and merged not in known}:
        known |= more
    return frozenset(known)


async def _ledger_keys(redis: Redis, subject: DataSubject) -> AsyncIterator[bytes]:
    """Yield every key that ends with the object's type and id, except its lane: a lease without data that expires."""
    for object_id in subject.ids:
        lane = keys.lane(subject.portal_id, subject.object_type, object_id).encode()
        for suffix in ("", ":*"):
            match = keys.object_data(subject.portal_id, subject.object_type, object_id) + suffix
            async for name in redis.scan_iter(match=match, count=_SCAN_COUNT):
                if name != lane:
                    yield name
