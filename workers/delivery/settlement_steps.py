"""What a settlement writes for an event. Rule: pure; each step holds all that belongs together."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from spokes.audit.records import Action, AuditRecord, Outcome, event_fields
from spokes.audit.stream import encode, encode_fields
from spokes.core.delivery import JOB_KEY_PREFIX, QUEUE_NAME, RETRY_KEY_PREFIX, Delivery, job_payload, new_id
from spokes.core.errors import ObjectNotFound
from spokes.core.events import Event
from spokes.core.redis import keys
from spokes.core.redis.keys import Command
from spokes.queue import dead_letters
from workers.delivery.lanes import Work, slot
from workers.delivery.resolution import MERGED_AWAY, Verdict
from workers.delivery.settlement import Step

if TYPE_CHECKING:
    from spokes.crm.services import Write

_TRIES_KEPT_S: Final = 86_400
_CLOCKS_DIFFER_MS: Final = 2_000  # Redis' and HubSpot's; a change counted as newer than it is costs a write at most


class Ended(NamedTuple):
    """One run of one event that has ended, with everything its records tell; `news` see there."""

    work: Work
    verdict: Verdict
    handler: str = ""
    writes: "Sequence[Write]" = ()
    news: Mapping[str, int] = MappingProxyType({})

    @property
    def attempt(self) -> int:
        """How often the handler has been tried now."""
        return self.work.entry.attempt + self.verdict.spent


@dataclass(slots=True)
class Later:
    """Events of one delivery that are to be tried again together, and the longest wait any of them needs."""

    delay_s: float = 0.0
    ended: list[Ended] = field(default_factory=list)

    def add(self, ended: Ended) -> None:
        """Put another event with those that wait for the same reason."""
        self.delay_s = max(self.delay_s, ended.verdict.delay_s or 0.0)
        self.ended.append(ended)


def end(delivery: Delivery, ended: Ended, *, dead_letter_s: int, newest_s: int) -> Sequence[Step]:
    """Return the end of an event: its records, and what follows from its outcome.

    An event whose object was not found dies only if no merge has told by then what became of the object: whoever learns
    a merge looks for such letters, and would miss the one that is being written.
    """
    commands: Sequence[Command] = ()
    otherwise: list[Step] = []
    hangs_on: tuple[str, bool] | None = None
    event, outcome, entry = ended.work.event, ended.verdict.outcome, ended.work.entry
    if outcome is Outcome.DEAD:
        died_at, tried = time.time_ns() // 1_000_000, entry._replace(attempt=ended.attempt)
        reason, handler = ended.verdict.reason, ended.handler
        letter = dead_letters.DeadLetter(delivery.portal_id, delivery.id, tried, reason, handler, died_at)
        commands = dead_letters.keep(letter, keep_s=dead_letter_s, worked_on=event)
        if reason == ObjectNotFound.reason:
            merged = keys.merged(delivery.portal_id, event.object_type, event.survivor_id)
            hangs_on = (merged, False)
            again = postpone(delivery, Later(ended=[ended._replace(verdict=MERGED_AWAY)]))
            otherwise.append(again._replace(hangs_on=(merged, True)))
    elif ended.news:
        commands = newest_marks(event, ended.news, keep_s=newest_s)
    records = _records(delivery, ended)
    if event.kind == "merge":
        records += _merged(delivery, ended)
    return Step(delivery, (entry.key,), records, commands, hangs_on), *otherwise


def news(
    event: Event, verdict: Verdict, writes: "Sequence[Write]", read_ms: int, *, told: bool = False
) -> dict[str, int]:
    """Return by name how new the truth is that an end has applied: of what changed, and of what was written to it.

    A value that we write rests on what we read, which is as new as HubSpot says (`rests_on`), or at least as new as our
    last look at Redis' clock (`read_ms`). Changes made before our reading are superseded by it, and one made between
    our reading and our writing is not, though our write landed on top of it. Where the event's own value was
    taken (`told`), what it changed is as new as the event, and no newer.
    """
    found: dict[str, int] = {}
    if verdict.is_news and (name := slot(event)):
        found[name] = event.occurred_at
    if verdict.outcome is Outcome.PROCESSED:
        for write in writes:
            if write.ok and (write.object_type, write.object_id) == (event.object_type, event.survivor_id):
                rest = [name for name in write.properties if not (told and name == event.property_name)]
                as_of = write.rests_on or read_ms - _CLOCKS_DIFFER_MS
                found |= {name: max(as_of, found.get(name, 0)) for name in rest}
    return found


def newest_marks(event: Event, news: Mapping[str, int], *, keep_s: int) -> tuple[Command, Command]:
    """Return the commands that say how new the truth is that was applied."""
    mark = keys.newest(event.portal_id, event.object_type, event.survivor_id)
    words = tuple(word for pair in news.items() for word in pair)
    return ("NEWER", mark, *words), ("EXPIRE", mark, keep_s)


def postpone(delivery: Delivery, later: Later, *, tries: int = 0) -> Step:
    """Return the move of events into a later delivery, which counts as tried so often; in this one they are settled.

    It is for whoever holds the delivery: had another taken it meanwhile, both would run the events.
    """
    now_ms = time.time_ns() // 1_000_000
    entries = tuple(ended.work.entry._replace(attempt=ended.attempt) for ended in later.ended)
    moved = replace(delivery, id=new_id(delivery.portal_id), entries=entries)
    records: list[bytes] = []
    for ended in later.ended:
        records += _records(delivery, ended, moved_to=moved.id, delay_s=later.delay_s)
    commands: tuple[Command, ...] = (
        ("SET", JOB_KEY_PREFIX + moved.id, job_payload(moved, now_ms)),
        ("ZADD", QUEUE_NAME, now_ms + round(later.delay_s * 1000), moved.id),
    )
    if tries:
        commands += (("SET", RETRY_KEY_PREFIX + moved.id, tries, "EX", _TRIES_KEPT_S),)
    return Step(delivery, tuple(entry.key for entry in entries), records, commands, is_holders=True)


def _records(delivery: Delivery, ended: Ended, *, moved_to: str = "", delay_s: float = 0.0) -> list[bytes]:
    """Return the records of a run: one of each change it made in HubSpot, then one of its outcome."""
    work, verdict = ended.work, ended.verdict
    detail: dict[str, object] | None = {"moved_to": moved_to, "delay_s": round(delay_s, 3)} if moved_to else None
    if work.merged_from:
        # Not the id it came under: the chain covers the detail, so no erasure could take it out.
        detail = {**(detail or {}), "merged": True}
    if verdict.told:
        detail = {**(detail or {}), "told": list(verdict.told)}
    if work.read_through:
        detail = {**(detail or {}), "read": [work.event.property_name]}
    told = event_fields(
        work.event,
        verdict.outcome,
        key=work.entry.key,
        delivery_id=delivery.id,
        attempt=ended.attempt,
        reason=verdict.reason,
        handler=ended.handler,
        correlation_id=verdict.correlation_id,
        detail=detail,
    )
    records = [encode(_write_record(delivery, ended, write)) for write in ended.writes]
    records.append(encode_fields(told))
    return records


def _merged(delivery: Delivery, ended: Ended) -> list[bytes]:
    """Return a record for each object that a merge took away, under its own id, so that an erasure can take it out."""
    event = ended.work.event
    return [
        encode(
            AuditRecord(
                action=Action.OBJECT_MERGED, portal_id=delivery.portal_id, delivery_id=delivery.id,
                event_key=ended.work.entry.key, event_id=event.event_id, object_type=event.object_type, object_id=loser,
                occurred_at=event.occurred_at,
            )
        )
        for loser in event.merged_ids
        if loser != event.object_id
    ]  # fmt: skip


def _write_record(delivery: Delivery, ended: Ended, write: "Write") -> AuditRecord:
    return AuditRecord(
        action=Action.CRM_WRITE,
        portal_id=delivery.portal_id,
        reason=write.reason,
        delivery_id=delivery.id,
        event_key=ended.work.entry.key,
        event_id=ended.work.event.event_id,
        object_type=write.object_type,
        object_id=write.object_id,
        handler=ended.handler,
        correlation_id=write.correlation_id,
        detail={"method": write.method, "properties": list(write.properties), "ok": write.ok},
    )
