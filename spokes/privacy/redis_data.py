"""What Redis holds on one CRM object, through the ids it had before merges. Rule: it only reads."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Final

from redis.asyncio import Redis

from spokes.core.delivery import JOB_KEY_PREFIX, QUEUE_NAME, Delivery, Entry, decode
from spokes.core.errors import UnreadableDelivery
from spokes.core.events import Event
from spokes.core.redis import keys
from spokes.queue.dead_letters import DeadLetter, DeadLetters
from spokes.queue.unreadable_jobs import mentioning

_PAGE: Final = 200  # jobs
_SCAN: Final = 1000  # keys


@dataclass(frozen=True, slots=True)
class Subject:
    """A CRM object under every id it is known by."""

    portal_id: int
    object_type: str
    ids: frozenset[str]

    def concerns(self, event: Event) -> bool:
        """Whether an event tells of it. HubSpot's order to erase does not count: it holds no value, and is work."""
        if event.portal_id != self.portal_id or event.object_type != self.object_type:
            return False
        told = {event.object_id, event.survivor_id, *event.merged_ids}
        return event.kind != "privacyDeletion" and not self.ids.isdisjoint(told)

    def entries(self, delivery: Delivery) -> tuple[Entry, ...]:
        """Return those entries of a delivery that tell of it."""
        if delivery.portal_id != self.portal_id:
            return ()
        return tuple(entry for entry in delivery.entries if self.concerns(entry.event))


@dataclass(frozen=True, slots=True)
class Holdings:
    """What is held: deliveries that wait, dead letters, the names of ledgers and marks, jobs that nobody can read."""

    deliveries: tuple[Delivery, ...] = ()
    letters: tuple[DeadLetter, ...] = ()
    ledgers: tuple[bytes, ...] = field(default=(), repr=False)
    unreadable: tuple[bytes, ...] = field(default=(), repr=False)

    def __bool__(self) -> bool:
        return bool(self.deliveries or self.letters or self.ledgers or self.unreadable)


async def find(redis: Redis, subject: Subject) -> Holdings:
    """Go through queue, dead letters, key names and what nobody can read.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    deliveries = tuple([delivery async for delivery in queued(redis) if subject.entries(delivery)])
    dead = DeadLetters(redis).list(subject.portal_id)
    letters = tuple([letter async for letter in dead if subject.concerns(letter.entry.event)])
    ledgers = tuple([name async for name in _ledgers(redis, subject)])
    return Holdings(deliveries, letters, ledgers, tuple(await mentioning(redis, subject.ids)))


async def queued(redis: Redis) -> AsyncIterator[Delivery]:
    """Go through the deliveries in the queue; what is unreadable is not ours to judge here."""
    names = await redis.zrange(QUEUE_NAME, 0, -1)
    for start in range(0, len(names), _PAGE):
        for payload in await redis.mget([JOB_KEY_PREFIX.encode() + name for name in names[start : start + _PAGE]]):
            if delivery := read_job(payload):
                yield delivery


def read_job(payload: bytes | None) -> Delivery | None:
    """Return the delivery in a job's bytes, None when there is none that we can read."""
    try:
        return None if payload is None else Delivery.from_job(decode(payload)["a"][0])
    except (UnreadableDelivery, LookupError):
        return None


async def former_ids(redis: Redis, portal_id: int, object_type: str, ids: Iterable[str]) -> frozenset[str]:
    """Return `ids` and every id that was merged into one of them, as far as the workers have seen."""
    start = keys.merged(portal_id, object_type, "")
    later: dict[str, str] = {}
    async for name in redis.scan_iter(match=f"{start}*", count=_SCAN):
        if (survivor := await redis.get(name)) is not None:
            later[name.decode().removeprefix(start)] = survivor.decode()
    known = set(ids)
    while more := {loser for loser, survivor in later.items() if survivor in known and loser not in known}:
        known |= more
    return frozenset(known)


async def _ledgers(redis: Redis, subject: Subject) -> AsyncIterator[bytes]:
    """Every key that ends in the object's type and id; a lane is a lease, holds nothing, and ends by itself."""
    for object_id in subject.ids:
        lane = keys.lane(subject.portal_id, subject.object_type, object_id).encode()
        for suffix in ("", ":*"):
            match = f"spokes:{subject.portal_id}:*:{subject.object_type}:{object_id}{suffix}"
            async for name in redis.scan_iter(match=match, count=_SCAN):
                if name != lane:
                    yield name
