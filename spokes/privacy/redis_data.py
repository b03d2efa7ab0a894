"""What Redis holds on one CRM object, through the ids it had before merges. Rule: it only reads."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Final

from redis.asyncio import Redis

from spokes.core.delivery import JOB_KEY_PREFIX, JOB_QUEUE, Delivery, Entry, decode
from spokes.core.errors import UnreadableDelivery
from spokes.core.events import Event
from spokes.core.redis import keys
from spokes.queue.dead_letters import DeadLetter, DeadLetters
from spokes.queue.unreadable_jobs import find_mentioning

_JOBS_PER_PAGE: Final = 200  # jobs
_SCAN_COUNT: Final = 1000  # keys


@dataclass(frozen=True, slots=True)
class DataSubject:
    """A CRM object under every id it is known by."""

    portal_id: int
    object_type: str
    ids: frozenset[str]

    def matches(self, event: Event) -> bool:
        """Whether an event tells of it. HubSpot's order to erase does not count: it holds no value, and is work."""
        if event.portal_id != self.portal_id or event.object_type != self.object_type:
            return False
        told = {event.object_id, event.survivor_id, *event.merged_ids}
        return event.kind != "privacyDeletion" and not self.ids.isdisjoint(told)

    def matching_entries(self, delivery: Delivery) -> tuple[Entry, ...]:
        """Return those entries of a delivery that tell of it."""
        if delivery.portal_id != self.portal_id:
            return ()
        return tuple(entry for entry in delivery.entries if self.matches(entry.event))


@dataclass(frozen=True, slots=True)
class RedisData:
    """What is held: deliveries that wait, dead letters, the names of ledgers and marks, jobs that nobody can read."""

    deliveries: tuple[Delivery, ...] = ()
    dead_letters: tuple[DeadLetter, ...] = ()
    ledger_keys: tuple[bytes, ...] = field(default=(), repr=False)
    unreadable_jobs: tuple[bytes, ...] = field(default=(), repr=False)

    def __bool__(self) -> bool:
        return bool(self.deliveries or self.dead_letters or self.ledger_keys or self.unreadable_jobs)


async def find_data(redis: Redis, subject: DataSubject) -> RedisData:
    """Go through queue, dead letters, key names and what nobody can read.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    deliveries = tuple([delivery async for delivery in queued_deliveries(redis) if subject.matching_entries(delivery)])
    dead = DeadLetters(redis).list(subject.portal_id)
    letters = tuple([letter async for letter in dead if subject.matches(letter.entry.event)])
    ledgers = tuple([name async for name in _ledger_keys(redis, subject)])
    return RedisData(deliveries, letters, ledgers, tuple(await find_mentioning(redis, subject.ids)))


async def queued_deliveries(redis: Redis) -> AsyncIterator[Delivery]:
    """Go through the deliveries in the queue; what is unreadable is not ours to judge here."""
    names = await redis.zrange(JOB_QUEUE, 0, -1)
    for start in range(0, len(names), _JOBS_PER_PAGE):
        for payload in await redis.mget(
            [JOB_KEY_PREFIX.encode() + name for name in names[start : start + _JOBS_PER_PAGE]]
        ):
            if delivery := read_job(payload):
                yield delivery


def read_job(payload: bytes | None) -> Delivery | None:
    """Return the delivery in a job's bytes, None when there is none that we can read."""
    try:
        return None if payload is None else Delivery.from_job(decode(payload)["a"][0])
    except (UnreadableDelivery, LookupError):
        return None


async def with_merged_ids(redis: Redis, portal_id: int, object_type: str, ids: Iterable[str]) -> frozenset[str]:
    """Return `ids` and every id that was merged into one of them, as far as the workers have seen."""
    start = keys.surviving_id(portal_id, object_type, "")
    later: dict[str, str] = {}
    async for name in redis.scan_iter(match=f"{start}*", count=_SCAN_COUNT):
        if (survivor := await redis.get(name)) is not None:
            later[name.decode().removeprefix(start)] = survivor.decode()
    known = set(ids)
    while more := {loser for loser, survivor in later.items() if survivor in known and loser not in known}:
        known |= more
    return frozenset(known)


async def _ledger_keys(redis: Redis, subject: DataSubject) -> AsyncIterator[bytes]:
    """Every key that ends in the object's type and id; a lane is a lease, holds nothing, and ends by itself."""
    for object_id in subject.ids:
        lane = keys.lane(subject.portal_id, subject.object_type, object_id).encode()
        for suffix in ("", ":*"):
            match = f"spokes:{subject.portal_id}:*:{subject.object_type}:{object_id}{suffix}"
            async for name in redis.scan_iter(match=match, count=_SCAN_COUNT):
                if name != lane:
                    yield name
