"""Dead letters: events that failed for good, stored until an operator replays or discards them."""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from redis.asyncio import Redis

from spokes.audit.alerts.bad_items import read_items
from spokes.audit.records import AuditRecord, Outcome, event_fields
from spokes.audit.stream import encode as encode_record
from spokes.core.clock import now_ms
from spokes.core.delivery import Delivery, Entry, decode, encode, entry_key, job_payload, new_delivery_id, stored_intake
from spokes.core.errors import ObjectNotFound, UnreadableDelivery
from spokes.core.events import Event
from spokes.core.priority import Priority, priority_of
from spokes.core.redis import keys
from spokes.core.redis.keys import AUDIT_STREAM, JOB_KEY_PREFIX, QUEUES, WAKE_CHANNEL, RedisCommand
from spokes.core.redis.scripts import read_script
from spokes.queue.dead_letter_index import (
    Cause,
    CauseSummary,
    DeadLetterIndex,
    IndexEntry,
    Position,
    add_commands,
    index_keys,
)

_CLOSE_SCRIPT: Final = read_script(__file__, "dead_letters.lua")
_PAGE_SIZE: Final = 500
_NOT_FOUND: Final = ObjectNotFound.reason


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that ended as dead: its entry and delivery, the reason, the handler, and when it died (epoch ms).

    `failure` names the error, its place and what HubSpot said, without a value; letters of earlier versions have none.
    """

    portal_id: int
    delivery_id: str
    entry: Entry
    reason: str
    handler: str
    died_at: int
    failure: Mapping[str, object] = field(default_factory=dict)
    priority: Priority = "interactive"

    def to_bytes(self) -> bytes:
        """Return the form stored in Redis."""
        fields: dict[str, object] = {"portal": self.portal_id, "delivery": self.delivery_id, "reason": self.reason}
        fields |= {"failure": dict(self.failure)} if self.failure else {}
        fields |= {"class": self.priority} if self.priority == "import" else {}
        fields |= {"intake": self.entry.intake} if self.entry.intake != "push" else {}
        return encode({**fields, "entry": self.entry.stored, "handler": self.handler, "at": self.died_at})

    @property
    def index_entry(self) -> IndexEntry:
        """Its entry in the indexes."""
        return IndexEntry(Cause(self.reason, self.handler), self.entry.key, self.died_at)

    @classmethod
    def from_bytes(cls, payload: bytes) -> "DeadLetter":
        """Parse the form stored in Redis.

        Raises:
            UnreadableDelivery: it is not a dead letter, or its entry is not an event.
        """
        fields = decode(payload)
        try:
            key, attempt, raw = fields["entry"]
            entry = Entry(str(key), int(attempt), dict(raw), intake=stored_intake(fields.get("intake")))
            texts = str(fields["reason"]), str(fields["handler"])
            failure = fields.get("failure")
            details = failure if isinstance(failure, dict) else {}
            is_import = fields.get("class") == "import"  # absent in letters of versions before the classes
            priority = "import" if is_import else priority_of(entry.raw.get("changeSource"))
            ids = int(fields["portal"]), str(fields["delivery"])
            letter = cls(*ids, entry, *texts, int(fields["at"]), details, priority)
        except (KeyError, TypeError, ValueError) as error:
            raise UnreadableDelivery from error
        _ = entry.event  # every reader needs it
        return letter


def store_commands(letter: DeadLetter, *, ttl_s: int, event_as_run: Event | None = None) -> list[RedisCommand]:
    """Return the commands that store a dead letter, for the transaction that records its outcome.

    Args:
        letter: the dead letter.
        ttl_s: how long it is stored.
        event_as_run: its event as the handler received it, if a merge changed the event.
    """
    commands: list[RedisCommand] = [
        ("SET", keys.dead_letter(letter.portal_id, letter.entry.key), letter.to_bytes(), "EX", ttl_s),
        *add_commands(letter.portal_id, letter.index_entry),
    ]
    if letter.reason == _NOT_FOUND:
        event = event_as_run or letter.entry.event
        missing_object = keys.missing_object_letters(letter.portal_id, event.object_type, event.survivor_id)
        commands += [("SADD", missing_object, letter.entry.key), ("EXPIRE", missing_object, ttl_s)]
    return commands


class DeadLetters:
    """An operator's view of the dead letters: list, replay, discard."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._script = redis.register_script(_CLOSE_SCRIPT)

    async def portals(self) -> list[int]:
        """Return the portals that may have dead letters."""
        members = await self._redis.smembers(keys.PORTALS)  # type: ignore[misc]  # redis-py types one class for sync and async
        return sorted(await read_items(self._redis, "portal", members, int))

    async def list(
        self, portal_id: int, *, reason: str | None = None, handler: str | None = None, after: Position | None = None
    ) -> AsyncIterator[DeadLetter]:
        """Yield a portal's dead letters, newest first: all, or those of a reason, a handler or both."""
        index = DeadLetterIndex(self._redis, portal_id)
        if (reason is not None or handler is not None) and not await index.is_complete():
            await self._rebuild(index, portal_id)
        async for page in index.pages(_PAGE_SIZE, reason=reason, handler=handler, after=after):
            payloads = await self._redis.mget([keys.dead_letter(portal_id, key) for key in page]) if page else []
            for letter in await self._read(payloads):
                yield letter
            if None in payloads:
                await index.remove_missing(*page)

    async def causes(self, portal_id: int, newest_count: int) -> tuple[CauseSummary, ...]:
        """Return a summary per cause, each with the keys of its `newest_count` letters; the counts are exact."""
        index = DeadLetterIndex(self._redis, portal_id)
        summaries, is_complete = await index.cause_summaries(newest_count)
        if not is_complete:
            await self._rebuild(index, portal_id)
            summaries, _ = await index.cause_summaries(newest_count)
        return summaries

    async def _rebuild(self, index: DeadLetterIndex, portal_id: int) -> None:
        await index.rebuild(letter.index_entry async for letter in self.list(portal_id))

    async def get(self, portal_id: int, key: str) -> DeadLetter | None:
        """Return the dead letter of an event, None if there is none."""
        letters = await self._read(await self._redis.mget([keys.dead_letter(portal_id, key)]))
        return letters[0] if letters else None

    async def by_missing_object(self, portal_id: int, object_type: str, object_id: str) -> tuple[DeadLetter, ...]:
        """Return the dead letters of events that failed because HubSpot did not find this object."""
        event_keys = await self._redis.smembers(keys.missing_object_letters(portal_id, object_type, object_id))  # type: ignore[misc]  # as above
        names = [keys.dead_letter(portal_id, key.decode(errors="replace")) for key in event_keys]
        payloads = await self._redis.mget(names) if names else ()
        return tuple(letter for letter in await self._read(payloads) if letter.reason == _NOT_FOUND)

    async def by_events(self, portal_id: int, event_keys: Collection[str]) -> AsyncIterator[DeadLetter]:
        """Yield a portal's dead letters of these events, of each of their handlers, newest first.

        The key of one letter, which names the handler of an event with several, selects this letter alone.
        """
        handlers = await DeadLetterIndex(self._redis, portal_id).handlers()
        names = [key if "." in key else entry_key(key, name) for key in event_keys for name in handlers]
        async for letter in self.by_keys(portal_id, dict.fromkeys((*event_keys, *names))):
            yield letter

    async def by_keys(self, portal_id: int, event_keys: Collection[str]) -> AsyncIterator[DeadLetter]:
        """Yield a portal's dead letters that have one of these event keys, newest first."""
        names = [keys.dead_letter(portal_id, key) for key in event_keys]
        payloads = await self._redis.mget(names) if names else []
        for letter in sorted(await self._read(payloads), key=lambda letter: -letter.died_at):
            yield letter

    async def _read(self, payloads: Iterable[bytes | None]) -> Sequence[DeadLetter]:
        """Return the readable letters among the payloads; None is one that has expired."""
        stored = (payload for payload in payloads if payload is not None)
        return await read_items(self._redis, "dead_letter", stored, DeadLetter.from_bytes)

    async def replay(self, letters: Iterable[DeadLetter], *, actor: str, reason: str, address: str = "") -> int:
        """Queue the events again, each as a new attempt of the same event; return how many.

        Letters that another operator has closed since are not counted. `address` is the network address of the
        operator's request, for the audit.
        """
        count = 0
        for letter in letters:
            delivery_id, queued_at = new_delivery_id(letter.portal_id), now_ms()
            entries = (letter.entry._replace(attempt=0, free_runs=0, intake="replay"),)
            delivery = Delivery(delivery_id, letter.portal_id, queued_at, entries, letter.priority)
            record = _audit_record(letter, Outcome.REPLAYED, (actor, address), reason, delivery_id)
            count += await self._close(letter, record, delivery_id, job_payload(delivery, queued_at), queued_at)
        return count

    async def discard(self, letters: Iterable[DeadLetter], *, actor: str, reason: str, address: str = "") -> int:
        """Close the letters without running their events again; return how many.

        Letters that another operator has closed since are not counted. `address` is the network address of the
        operator's request, for the audit.
        """
        count = 0
        for letter in letters:
            record = _audit_record(letter, Outcome.DISCARDED, (actor, address), reason, letter.delivery_id)
            count += await self._close(letter, record)
        return count

    async def _close(
        self, letter: DeadLetter, record: AuditRecord, delivery_id: str = "", payload: bytes = b"", queued_at: int = 0
    ) -> int:
        """Delete a letter, with the record of its outcome and the delivery that replays it; return 1, or 0 if gone."""
        key = letter.entry.key
        names = [keys.dead_letter(letter.portal_id, key), *index_keys(letter.portal_id, letter.index_entry.cause)]
        names += [AUDIT_STREAM, QUEUES[letter.priority], JOB_KEY_PREFIX + delivery_id]
        args: list[str | bytes | int] = [key, encode_record(record), delivery_id, payload, queued_at, WAKE_CHANNEL]
        return int(await self._script(keys=names, args=args))


def _audit_record(
    letter: DeadLetter, outcome: Outcome, operator: tuple[str, str], reason: str, delivery_id: str
) -> AuditRecord:
    actor, address = operator
    fields = event_fields(
        letter.entry.event,
        outcome,
        key=letter.entry.event_key,
        delivery_id=delivery_id,
        attempt=letter.entry.attempt,
        reason=reason,
        handler=letter.handler,
        detail=_detail(letter, address),
        actor=actor,
    )
    return AuditRecord(**fields)


def _detail(letter: DeadLetter, address: str) -> dict[str, object]:
    """Return the detail of an operator's record; a letter of one of several handlers names its own."""
    detail: dict[str, object] = {"address": address} if address else {}
    return {**detail, "handlers": [letter.entry.handler]} if letter.entry.handler else detail
