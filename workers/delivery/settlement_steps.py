"""What a settlement writes for an event. Rule: pure; each step holds all that belongs together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from spokes.audit.records import Action, AuditRecord, Outcome, event_fields
from spokes.audit.stream import encode, encode_fields
from spokes.core import clock
from spokes.core.delivery import JOB_KEY_PREFIX, JOB_QUEUE, RETRY_KEY_PREFIX, Delivery, job_payload, new_delivery_id
from spokes.core.errors import ObjectNotFound
from spokes.core.events import Event
from spokes.core.redis import keys
from spokes.core.redis.keys import RedisCommand
from spokes.queue import dead_letters
from workers.delivery.lanes import WorkItem, ordering_key
from workers.delivery.resolution import MERGED_AWAY, Resolution
from workers.delivery.settlement import SettlementStep

if TYPE_CHECKING:
    from spokes.crm.services import WriteRecord

_TRIES_TTL_S: Final = 86_400
_MAX_CLOCK_SKEW_MS: Final = 2_000  # Redis' and HubSpot's; a change counted as newer than it is costs a write at most


class ResolvedEvent(NamedTuple):
    """One run of one event that has ended, with everything its records tell; `news` see there."""

    item: WorkItem
    resolution: Resolution
    handler: str = ""
    writes: "Sequence[WriteRecord]" = ()
    applied: Mapping[str, int] = MappingProxyType({})

    @property
    def attempt(self) -> int:
        """How often the handler has been tried now."""
        return self.item.entry.attempt + self.resolution.counts_as_attempt


@dataclass(slots=True)
class Postponement:
    """Events of one delivery that are to be tried again together, and the longest wait any of them needs."""

    delay_s: float = 0.0
    events: list[ResolvedEvent] = field(default_factory=list)

    def add(self, resolved: ResolvedEvent) -> None:
        """Put another event with those that wait for the same reason."""
        self.delay_s = max(self.delay_s, resolved.resolution.delay_s or 0.0)
        self.events.append(resolved)


def final_steps(
    delivery: Delivery, resolved: ResolvedEvent, *, dead_letter_ttl_s: int, newest_ttl_s: int
) -> Sequence[SettlementStep]:
    """Return the end of an event: its records, and what follows from its outcome.

    An event whose object was not found dies only if no merge has told by then what became of the object: whoever learns
    a merge looks for such letters, and would miss the one that is being written.
    """
    commands: Sequence[RedisCommand] = ()
    otherwise: list[SettlementStep] = []
    hangs_on: tuple[str, bool] | None = None
    event, outcome, entry = resolved.item.event, resolved.resolution.outcome, resolved.item.entry
    if outcome is Outcome.DEAD:
        died_at, tried = clock.now_ms(), entry._replace(attempt=resolved.attempt)
        reason, handler = resolved.resolution.reason, resolved.handler
        letter = dead_letters.DeadLetter(delivery.portal_id, delivery.id, tried, reason, handler, died_at)
        commands = dead_letters.store_commands(letter, ttl_s=dead_letter_ttl_s, event_as_run=event)
        if reason == ObjectNotFound.reason:
            merged = keys.surviving_id(delivery.portal_id, event.object_type, event.survivor_id)
            hangs_on = (merged, False)
            again = postpone_step(delivery, Postponement(events=[resolved._replace(resolution=MERGED_AWAY)]))
            otherwise.append(again._replace(requires_key=(merged, True)))
    elif resolved.applied:
        commands = newest_commands(event, resolved.applied, ttl_s=newest_ttl_s)
    records = _audit_records(delivery, resolved)
    if event.kind == "merge":
        records += _merge_records(delivery, resolved)
    return SettlementStep(delivery, (entry.key,), records, commands, hangs_on), *otherwise


def applied_timestamps(
    event: Event,
    resolution: Resolution,
    writes: "Sequence[WriteRecord]",
    redis_time_ms: int,
    *,
    used_event_value: bool = False,
) -> dict[str, int]:
    """Return by name how new the truth is that an end has applied: of what changed, and of what was written to it.

    A value that we write rests on what we read, which is as new as HubSpot says (`rests_on`), or at least as new as our
    last look at Redis' clock (`read_ms`). Changes made before our reading are superseded by it, and one made between
    our reading and our writing is not, though our write landed on top of it. Where the event's own value was
    taken (`told`), what it changed is as new as the event, and no newer.
    """
    found: dict[str, int] = {}
    if resolution.advances_newest and (name := ordering_key(event)):
        found[name] = event.occurred_at
    if resolution.outcome is Outcome.PROCESSED:
        for write in writes:
            if write.ok and (write.object_type, write.object_id) == (event.object_type, event.survivor_id):
                rest = [name for name in write.properties if not (used_event_value and name == event.property_name)]
                as_of = write.based_on_ms or redis_time_ms - _MAX_CLOCK_SKEW_MS
                found |= {name: max(as_of, found.get(name, 0)) for name in rest}
    return found


def newest_commands(event: Event, applied: Mapping[str, int], *, ttl_s: int) -> tuple[RedisCommand, RedisCommand]:
    """Return the commands that say how new the truth is that was applied."""
    mark = keys.newest_timestamps(event.portal_id, event.object_type, event.survivor_id)
    words = tuple(word for pair in applied.items() for word in pair)
    return ("NEWER", mark, *words), ("EXPIRE", mark, ttl_s)


def postpone_step(delivery: Delivery, postponement: Postponement, *, tries: int = 0) -> SettlementStep:
    """Return the move of events into a later delivery, which counts as tried so often; in this one they are settled.

    It is for whoever holds the delivery: had another taken it meanwhile, both would run the events.
    """
    now_ms = clock.now_ms()
    entries = tuple(ended.item.entry._replace(attempt=ended.attempt) for ended in postponement.events)
    moved = replace(delivery, id=new_delivery_id(delivery.portal_id), entries=entries)
    records: list[bytes] = []
    for ended in postponement.events:
        records += _audit_records(delivery, ended, moved_to=moved.id, delay_s=postponement.delay_s)
    commands: tuple[RedisCommand, ...] = (
        ("SET", JOB_KEY_PREFIX + moved.id, job_payload(moved, now_ms)),
        ("ZADD", JOB_QUEUE, now_ms + round(postponement.delay_s * 1000), moved.id),
    )
    if tries:
        commands += (("SET", RETRY_KEY_PREFIX + moved.id, tries, "EX", _TRIES_TTL_S),)
    return SettlementStep(delivery, tuple(entry.key for entry in entries), records, commands, requires_lease=True)


def _audit_records(
    delivery: Delivery, resolved: ResolvedEvent, *, moved_to: str = "", delay_s: float = 0.0
) -> list[bytes]:
    """Return the records of a run: one of each change it made in HubSpot, then one of its outcome."""
    work, verdict = resolved.item, resolved.resolution
    detail: dict[str, object] | None = {"moved_to": moved_to, "delay_s": round(delay_s, 3)} if moved_to else None
    if work.merged_from:
        # Not the id it came under: the chain covers the detail, so no erasure could take it out.
        detail = {**(detail or {}), "merged": True}
    if verdict.error_details:
        detail = {**(detail or {}), "told": list(verdict.error_details)}
    if work.read_withheld_value:
        detail = {**(detail or {}), "read": [work.event.property_name]}
    told = event_fields(
        work.event,
        verdict.outcome,
        key=work.entry.key,
        delivery_id=delivery.id,
        attempt=resolved.attempt,
        reason=verdict.reason,
        handler=resolved.handler,
        correlation_id=verdict.correlation_id,
        detail=detail,
    )
    records = [encode(_crm_write_record(delivery, resolved, write)) for write in resolved.writes]
    records.append(encode_fields(told))
    return records


def _merge_records(delivery: Delivery, resolved: ResolvedEvent) -> list[bytes]:
    """Return a record for each object that a merge took away, under its own id, so that an erasure can take it out."""
    event = resolved.item.event
    return [
        encode(
            AuditRecord(
                action=Action.OBJECT_MERGED,
                portal_id=delivery.portal_id,
                delivery_id=delivery.id,
                event_key=resolved.item.entry.key,
                event_id=event.event_id,
                object_type=event.object_type,
                object_id=loser,
                occurred_at=event.occurred_at,
            )
        )
        for loser in event.merged_ids
        if loser != event.object_id
    ]


def _crm_write_record(delivery: Delivery, resolved: ResolvedEvent, write: "WriteRecord") -> AuditRecord:
    return AuditRecord(
        action=Action.CRM_WRITE,
        portal_id=delivery.portal_id,
        reason=write.reason,
        delivery_id=delivery.id,
        event_key=resolved.item.entry.key,
        event_id=resolved.item.event.event_id,
        object_type=write.object_type,
        object_id=write.object_id,
        handler=resolved.handler,
        correlation_id=write.correlation_id,
        detail={"method": write.method, "properties": list(write.properties), "ok": write.ok},
    )
