"""What one resolved event writes to Redis: audit records, dead letters, newest timestamps, later deliveries. Pure.

Clock and new ids are arguments. Each step holds everything that must be written together.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from spokes.audit.records import Action, AuditRecord, Outcome, event_fields, record_fields
from spokes.audit.stream import encode, encode_fields
from spokes.core.delivery import Delivery, Entry, job_payload
from spokes.core.errors import ObjectNotFound
from spokes.core.events import Event
from spokes.core.redis import keys
from spokes.core.redis.keys import JOB_KEY_PREFIX, QUEUES, RETRY_KEY_PREFIX, RedisCommand
from spokes.queue import dead_letters
from spokes.queue.held_deliveries import Calls
from workers.delivery.settlement import SettlementStep
from workers.lanes.lanes import WorkItem
from workers.lanes.resolution import INTERNAL_ERROR, MERGED_AWAY, UNINSTALLED, Resolution

if TYPE_CHECKING:
    from spokes.crm.services import WriteRecord

_TRIES_TTL_S: Final = 86_400
_FAILED_PROBES: Final = 2  # failed runs after which other events that wait for the same calls are the probe
_FAILED_PROBE_MS: Final = 3_600_000
_MAX_CLOCK_SKEW_MS: Final = 2_000  # between Redis and HubSpot; a timestamp that is too new costs at most a write


class ResolvedEvent(NamedTuple):
    """One event after one run; `applied`: see applied_timestamps."""

    item: WorkItem
    resolution: Resolution
    handler: str = ""
    writes: "Sequence[WriteRecord]" = ()
    applied: Mapping[str, int] = MappingProxyType({})

    @property
    def attempt(self) -> int:
        """The number of attempts made, this run included if it counts."""
        return self.item.entry.attempt + self.resolution.counts_as_attempt

    @property
    def free_runs(self) -> int:
        """The number of failed handler runs that spent no attempt, this run included if it is one."""
        return self.item.entry.free_runs + self.resolution.is_free_run


@dataclass(slots=True)
class Postponement:
    """Events of one delivery that move to a later one together; `delay_s` is the longest delay among them."""

    delay_s: float = 0.0
    events: list[ResolvedEvent] = field(default_factory=list)

    def add(self, resolved: ResolvedEvent) -> None:
        """Add an event that is postponed for the same reason."""
        self.delay_s = max(self.delay_s, resolved.resolution.delay_s or 0.0)
        self.events.append(resolved)


def final_steps(
    delivery: Delivery,
    resolved: ResolvedEvent,
    now_ms: int,
    new_delivery_id: Callable[[int], str],
    *,
    dead_letter_ttl_s: int,
    newest_ttl_s: int,
) -> Sequence[SettlementStep]:
    """Return the steps that settle an event with its final outcome.

    An event whose object was not found becomes a dead letter only if the object is not in the merge map when the step
    is carried out; otherwise it is postponed and runs on the surviving record. Recording a merge replays the letters of
    the merged record, and would miss a letter that is written just then.
    """
    commands: Sequence[RedisCommand] = ()
    alternatives: tuple[SettlementStep, ...] = ()
    requires_key: tuple[str, bool] | None = None
    event, outcome, entry = resolved.item.event, resolved.resolution.outcome, resolved.item.entry
    if outcome is Outcome.DEAD:
        failed_entry, reason = entry._replace(attempt=resolved.attempt), resolved.resolution.reason
        letter = dead_letters.DeadLetter(
            delivery.portal_id,
            delivery.id,
            failed_entry,
            reason,
            resolved.handler,
            now_ms,
            resolved.resolution.failure or {},
            delivery.priority,
        )
        commands = dead_letters.store_commands(letter, ttl_s=dead_letter_ttl_s, event_as_run=event)
        if reason == ObjectNotFound.reason:
            merged = keys.surviving_id(delivery.portal_id, event.object_type, event.survivor_id)
            requires_key = (merged, False)
            postponement = Postponement(events=[resolved._replace(resolution=MERGED_AWAY)])
            retry = postpone_step(delivery, postponement, now_ms, new_delivery_id(delivery.portal_id))
            alternatives = (retry._replace(requires_key=(merged, True)),)
    elif resolved.applied:
        commands = newest_commands(event, resolved.applied, ttl_s=newest_ttl_s)
    records = _audit_records(delivery, resolved, now_ms)
    if event.kind == "merge" and not resolved.item.position and resolved.resolution is not UNINSTALLED:
        records += _merge_records(delivery, resolved)
    return SettlementStep(delivery, (entry.key,), records, commands, requires_key), *alternatives


def internal_error_step(delivery: Delivery, entry: Entry, now_ms: int, *, dead_letter_ttl_s: int) -> SettlementStep:
    """Return the step that settles an event as dead whose run fails in our own code; it reads nothing of the event."""
    letter = dead_letters.DeadLetter(
        delivery.portal_id, delivery.id, entry, INTERNAL_ERROR, entry.handler, now_ms, priority=delivery.priority
    )
    record = AuditRecord(
        action=Action.EVENT,
        portal_id=delivery.portal_id,
        outcome=Outcome.DEAD,
        reason=INTERNAL_ERROR,
        delivery_id=delivery.id,
        event_key=entry.event_key,
        attempt=entry.attempt,
        handler=entry.handler,
        detail={"intake": entry.intake} if entry.intake != "push" else {},
    )
    commands = dead_letters.store_commands(letter, ttl_s=dead_letter_ttl_s)
    return SettlementStep(delivery, (entry.key,), [encode(record)], commands)


def applied_timestamps(
    item: WorkItem,
    resolution: Resolution,
    writes: "Sequence[WriteRecord]",
    redis_time_ms: int,
    *,
    used_event_value: bool = False,
) -> dict[str, int]:
    """Return, by ordering key, the time of the newest change that a handler call applied.

    A written value is as new as the record it was computed from: HubSpot's `updatedAt` (`based_on_ms`), or if nothing
    was read, the latest time we read Redis' clock. Changes made before that are superseded; a change made between our
    read and our write is not, although our write overwrote it.

    Args:
        item: the event that was processed.
        resolution: of the call.
        writes: what the handler wrote.
        redis_time_ms: what happened at HubSpot before, in epoch ms, is in what the handler read.
        used_event_value: whether the handler wrote the event's own value, which is exactly as new as the event.
    """
    applied: dict[str, int] = {}
    event, handler = item.event, item.handler
    if (own := item.ordering_key) and resolution.advances_newest:
        applied[own] = event.occurred_at
    if resolution.outcome is Outcome.PROCESSED:
        for write in writes:
            if write.ok and (write.object_type, write.object_id) == (event.object_type, event.survivor_id):
                as_of = write.based_on_ms or redis_time_ms - _MAX_CLOCK_SKEW_MS
                for name in write.properties:
                    is_own = name == event.property_name
                    if not (used_event_value and is_own):
                        key = f"{name}@{handler}" if handler and is_own else name
                        applied[key] = max(as_of, applied.get(key, 0))
    return applied


def newest_commands(event: Event, applied: Mapping[str, int], *, ttl_s: int) -> tuple[RedisCommand, RedisCommand]:
    """Return the commands that raise the newest timestamps of the event's object."""
    key = keys.newest_timestamps(event.portal_id, event.object_type, event.survivor_id)
    fields = tuple(field for pair in applied.items() for field in pair)
    return ("NEWER", key, *fields), ("EXPIRE", key, ttl_s)


def postpone_step(
    delivery: Delivery, postponement: Postponement, now_ms: int, moved_id: str, *, tries: int = 0
) -> SettlementStep:
    """Return the step that moves events into a later delivery, where they are settled from then on.

    Only the holder of the delivery may carry it out: if another worker has claimed it, both would run the events.

    Args:
        delivery: the delivery that the events leave.
        postponement: the events and their delay.
        now_ms: the time in epoch ms.
        moved_id: the id of the new delivery.
        tries: how often arq counts the new delivery as tried.
    """
    entries = tuple(
        resolved.item.entry._replace(attempt=resolved.attempt, free_runs=resolved.free_runs)
        for resolved in postponement.events
    )
    moved = replace(delivery, id=moved_id, entries=entries)
    records: list[bytes] = []
    for resolved in postponement.events:
        records += _audit_records(delivery, resolved, now_ms, moved_to=moved.id, delay_s=postponement.delay_s)
    commands: tuple[RedisCommand, ...] = (
        ("SET", JOB_KEY_PREFIX + moved.id, job_payload(moved, now_ms)),
        ("ZADD", QUEUES[delivery.priority], now_ms + round(postponement.delay_s * 1000), moved.id),
    )
    if any(resolved.resolution.waits_for_credentials for resolved in postponement.events):
        commands += (("ZADD", keys.parked_deliveries(delivery.portal_id), now_ms, moved.id),)
    if kind := postponement.events[0].resolution.waits_for_calls:
        has_failed_probes = any(resolved.attempt >= _FAILED_PROBES for resolved in postponement.events)
        held_at = now_ms + _FAILED_PROBE_MS if has_failed_probes else now_ms
        commands += (
            ("ZADD", keys.held_deliveries(delivery.portal_id, kind), held_at, moved.id),
            ("SADD", keys.HELD_SETS, Calls(delivery.portal_id, kind).field),
        )
    if tries:
        commands += (("SET", RETRY_KEY_PREFIX + moved.id, tries, "EX", _TRIES_TTL_S),)
    return SettlementStep(delivery, tuple(entry.key for entry in entries), records, commands, requires_lease=True)


def _audit_records(
    delivery: Delivery, resolved: ResolvedEvent, now_ms: int, *, moved_to: str = "", delay_s: float = 0.0
) -> list[bytes]:
    """Return the records of one run: one for each CRM write, then one for the outcome."""
    item, resolution = resolved.item, resolved.resolution
    detail: dict[str, object] | None = {"moved_to": moved_to, "delay_s": round(delay_s, 3)} if moved_to else None
    if item.event.intake != "push":
        detail = {**(detail or {}), "intake": item.event.intake}
    if item.handlers:
        detail = {**(detail or {}), "handlers": list(item.handlers)}
    if item.merged_from:
        # Without the id as received: the chain covers the detail, so no erasure could remove it.
        detail = {**(detail or {}), "merged": True}
    if resolution.failure:
        detail = {**(detail or {}), "failure": dict(resolution.failure)}
    if item.http_calls:
        detail = {**(detail or {}), "http": [dict(call) for call in item.http_calls]}
    if item.read_withheld_value:
        detail = {**(detail or {}), "read": [item.event.property_name]}
    if item.token_fingerprint:
        detail = {**(detail or {}), "token_fingerprint": item.token_fingerprint}
    outcome_fields = event_fields(
        item.event,
        resolution.outcome,
        key=item.entry.event_key if item.handler else item.entry.key,
        delivery_id=delivery.id,
        attempt=resolved.attempt,
        reason=resolution.reason,
        handler=resolved.handler,
        correlation_id=resolution.correlation_id,
        detail=detail,
        at=now_ms,
    )
    if resolution is UNINSTALLED:  # nothing about its objects is kept
        outcome_fields["object_id"] = ""
    outcome_record = encode_fields(outcome_fields)
    if not resolved.writes:
        return [outcome_record]
    return [*[encode_fields(_write_fields(delivery, resolved, write)) for write in resolved.writes], outcome_record]


def _merge_records(delivery: Delivery, resolved: ResolvedEvent) -> list[bytes]:
    """Return a record for each object that was merged away, under its own id, so that an erasure can find it."""
    event = resolved.item.event
    return [
        encode(
            AuditRecord(
                action=Action.OBJECT_MERGED, portal_id=delivery.portal_id, delivery_id=delivery.id,
                event_key=resolved.item.entry.event_key, event_id=event.event_id, object_type=event.object_type,
                object_id=merged_id, occurred_at=event.occurred_at,
            )
        )
        for merged_id in event.merged_ids
        if merged_id != event.object_id
    ]  # fmt: skip


def _write_fields(delivery: Delivery, resolved: ResolvedEvent, write: "WriteRecord") -> dict[str, object]:
    detail: dict[str, object] = {"method": write.method, "properties": write.properties, "ok": write.ok}
    if write.failure:
        detail["failure"] = dict(write.failure)
    if fingerprint := resolved.item.token_fingerprint:
        detail["token_fingerprint"] = fingerprint
    return record_fields(
        Action.CRM_WRITE,
        delivery.portal_id,
        reason=write.reason,
        delivery_id=delivery.id,
        event_key=resolved.item.entry.event_key,
        event_id=resolved.item.event.event_id,
        object_type=write.object_type,
        object_id=write.object_id,
        handler=resolved.handler,
        correlation_id=write.correlation_id,
        detail=detail,
    )
