"""Dead letters: events that could not be processed, kept with their history. Rule: only an operator ends them."""

from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from redis.asyncio import Redis

from spokes.audit.records import AuditRecord, Outcome, event_fields
from spokes.audit.stream import encode as encode_record
from spokes.core import clock
from spokes.core.delivery import (
    AUDIT_STREAM,
    JOB_KEY_PREFIX,
    JOB_QUEUE,
    WAKE_CHANNEL,
    Delivery,
    Entry,
    decode,
    encode,
    job_payload,
    new_delivery_id,
)
from spokes.core.errors import ObjectNotFound, UnreadableDelivery
from spokes.core.events import Event
from spokes.core.redis import keys
from spokes.core.redis.keys import RedisCommand
from spokes.queue import dead_letter_index as dead_index
from spokes.queue.dead_letter_index import Cause, CauseSummary, DeadLetterIndex, IndexEntry

_CLOSE_SCRIPT: Final = (Path(__file__).parent / "dead_letters.lua").read_text()
_PAGE_SIZE: Final = 500
_NOT_FOUND: Final = ObjectNotFound.reason


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that ended as dead: the entry, why it died, in which delivery, at which epoch ms."""

    portal_id: int
    delivery_id: str
    entry: Entry
    reason: str
    handler: str
    died_at: int

    def to_bytes(self) -> bytes:
        """Return what Redis keeps."""
        fields = {"portal": self.portal_id, "delivery": self.delivery_id, "reason": self.reason}
        return encode({**fields, "entry": tuple(self.entry), "handler": self.handler, "at": self.died_at})

    @property
    def index_entry(self) -> IndexEntry:
        """Where it stands in the indexes."""
        return IndexEntry(Cause(self.reason, self.handler), self.entry.key, self.died_at)

    @classmethod
    def from_bytes(cls, payload: bytes) -> "DeadLetter":
        """Read what Redis kept.

        Raises:
            UnreadableDelivery: it is not a dead letter.
        """
        fields = decode(payload)
        try:
            key, attempt, raw = fields["entry"]
            entry = Entry(key, attempt, raw)
            return cls(fields["portal"], fields["delivery"], entry, fields["reason"], fields["handler"], fields["at"])
        except (KeyError, TypeError, ValueError) as fault:
            raise UnreadableDelivery from fault


def store_commands(letter: DeadLetter, *, ttl_s: int, event_as_run: Event | None = None) -> list[RedisCommand]:
    """Return the commands that keep `letter`, for the step that also records its outcome.

    Args:
        letter: what died.
        keep_s: for how long.
        worked_on: its event as it was run, where a merge has made that another than came.
    """
    commands: list[RedisCommand] = [
        ("SET", keys.dead_letter(letter.portal_id, letter.entry.key), letter.to_bytes(), "EX", ttl_s),
        *dead_index.add_commands(letter.portal_id, letter.index_entry),
    ]
    if letter.reason == _NOT_FOUND:
        event = event_as_run or letter.entry.event
        missing = keys.missing_object_letters(letter.portal_id, event.object_type, event.survivor_id)
        commands += [("SADD", missing, letter.entry.key), ("EXPIRE", missing, ttl_s)]
    return commands


class DeadLetters:
    """What an operator does with dead letters."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._script = redis.register_script(_CLOSE_SCRIPT)

    async def portals(self) -> list[int]:
        """Return the portals that may have dead letters."""
        return sorted(int(portal) for portal in await self._redis.smembers(keys.PORTALS))  # type: ignore[misc]  # redis-py types one class for sync and async

    async def list(self, portal_id: int, cause: Cause | None = None) -> AsyncIterator[DeadLetter]:
        """Go through a portal's dead letters, newest first; of one cause, if `cause` says which."""
        index = DeadLetterIndex(self._redis, portal_id)
        names = await index.event_keys(cause)
        for start in range(0, len(names), _PAGE_SIZE):
            page = names[start : start + _PAGE_SIZE]
            payloads = await self._redis.mget([keys.dead_letter(portal_id, name) for name in page])
            for payload in payloads:
                if payload is not None:
                    yield DeadLetter.from_bytes(payload)
            if None in payloads:
                await index.remove_missing(*page)

    async def causes(self, portal_id: int, newest_count: int) -> tuple[CauseSummary, ...]:
        """Return what a portal's events died of, each with the keys of its `newest` letters; exact counts."""
        index = DeadLetterIndex(self._redis, portal_id)
        groups, complete = await index.cause_summaries(newest_count)
        if not complete:
            await index.rebuild(letter.index_entry async for letter in self.list(portal_id))
            groups, _ = await index.cause_summaries(newest_count)
        return groups

    async def get(self, portal_id: int, key: str) -> DeadLetter | None:
        """Return the dead letter of an event; None when there is none."""
        payload = await self._redis.get(keys.dead_letter(portal_id, key))
        return None if payload is None else DeadLetter.from_bytes(payload)

    async def by_missing_object(self, portal_id: int, object_type: str, object_id: str) -> tuple[DeadLetter, ...]:
        """Return the dead letters whose events were run on an object that HubSpot did not find."""
        names = await self._redis.smembers(keys.missing_object_letters(portal_id, object_type, object_id))  # type: ignore[misc]  # as above
        payloads = (
            await self._redis.mget([keys.dead_letter(portal_id, name.decode()) for name in names]) if names else ()
        )
        letters = (DeadLetter.from_bytes(payload) for payload in payloads if payload is not None)
        return tuple(letter for letter in letters if letter.reason == _NOT_FOUND)

    async def by_keys(self, portal_id: int, event_keys: Collection[str]) -> AsyncIterator[DeadLetter]:
        """Go through those dead letters of a portal that have one of these event keys, newest first."""
        payloads = (
            await self._redis.mget([keys.dead_letter(portal_id, name) for name in event_keys]) if event_keys else []
        )
        found = [DeadLetter.from_bytes(payload) for payload in payloads if payload is not None]
        for letter in sorted(found, key=lambda letter: -letter.died_at):
            yield letter

    async def replay(self, letters: Iterable[DeadLetter], *, actor: str, reason: str, address: str = "") -> int:
        """Queue the events again, each as a new attempt of the same event; return how many.

        Letters that somebody else has ended meanwhile do not count. `address` is where the operator's request came
        from, for the audit.
        """
        count = 0
        for letter in letters:
            delivery_id, now_ms = new_delivery_id(letter.portal_id), clock.now_ms()
            delivery = Delivery(delivery_id, letter.portal_id, now_ms, (letter.entry._replace(attempt=0),))
            record = _audit_record(letter, Outcome.REPLAYED, (actor, address), reason, delivery_id)
            count += await self._close(letter, record, delivery_id, job_payload(delivery, now_ms), now_ms)
        return count

    async def discard(self, letters: Iterable[DeadLetter], *, actor: str, reason: str, address: str = "") -> int:
        """End the events for good; return how many.

        Letters that somebody else has ended meanwhile do not count. `address` is where the operator's request came
        from, for the audit.
        """
        count = 0
        for letter in letters:
            record = _audit_record(letter, Outcome.DISCARDED, (actor, address), reason, letter.delivery_id)
            count += await self._close(letter, record)
        return count

    async def _close(
        self, letter: DeadLetter, record: AuditRecord, delivery_id: str = "", payload: bytes = b"", now_ms: int = 0
    ) -> int:
        """Let a letter go, once, with the record of what becomes of it and the delivery that takes its event up."""
        key = letter.entry.key
        names = [
            keys.dead_letter(letter.portal_id, key),
            *dead_index.index_keys(letter.portal_id, letter.index_entry.cause),
        ]
        words: list[str | bytes | int] = [key, encode_record(record), delivery_id, payload, now_ms, WAKE_CHANNEL]
        names += [AUDIT_STREAM, JOB_QUEUE, JOB_KEY_PREFIX + delivery_id]
        return int(await self._script(keys=names, args=words))


def _audit_record(
    letter: DeadLetter, outcome: Outcome, operator: tuple[str, str], reason: str, delivery_id: str
) -> AuditRecord:
    told = event_fields(
        letter.entry.event,
        outcome,
        key=letter.entry.key,
        delivery_id=delivery_id,
        attempt=letter.entry.attempt,
        reason=reason,
        handler=letter.handler,
        detail={"address": operator[1]} if operator[1] else None,
        actor=operator[0],
    )
    return AuditRecord(**told)
