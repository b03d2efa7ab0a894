"""What a settlement writes for an event. Rule: each step queues all that belongs together, and executes nothing."""

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from redis.asyncio.client import Pipeline

from audit.records import Action, AuditRecord, Outcome, event_record
from audit.stream import append
from core.deliveries import JOB_KEY_PREFIX, QUEUE_NAME, Delivery, Entry, job_payload, new_id
from core.events import Event
from workers import dead_letters, keys
from workers.verdicts import Verdict

if TYPE_CHECKING:
    from crm.services import Write

_SETTLED_KEEP_S: Final = 7 * 86_400  # marks outlive any pause between two runs of one delivery


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one event that has ended, with everything its records tell."""

    delivery: Delivery
    entry: Entry
    event: Event
    verdict: Verdict
    handler: str = ""
    writes: "tuple[Write, ...]" = ()


@dataclass(slots=True)
class Later:
    """Runs of one delivery whose events are to be tried again together, and the longest wait any of them needs."""

    delay_s: float = 0.0
    runs: list[Run] = field(default_factory=list)

    def add(self, run: Run) -> None:
        """Put another event with those that wait for the same reason."""
        self.delay_s = max(self.delay_s, run.verdict.delay_s or 0.0)
        self.runs.append(run)


def end(pipeline: Pipeline, run: Run, *, dead_letter_s: int, newest_s: int) -> None:
    """Queue the end of an event: its records, its settled mark, and what follows from its outcome."""
    record(pipeline, run)
    _mark_settled(pipeline, run.delivery, [run.entry.key])
    event, outcome = run.event, run.verdict.outcome
    if outcome is Outcome.DEAD:
        died_at = time.time_ns() // 1_000_000
        letter = dead_letters.DeadLetter(
            run.delivery.portal_id, run.delivery.id, run.entry, run.verdict.reason, run.handler, died_at
        )
        dead_letters.keep(pipeline, letter, keep_s=dead_letter_s)
    elif outcome in {Outcome.PROCESSED, Outcome.ECHO} and event.kind == "propertyChange" and event.property_name:
        mark = keys.newest(event.portal_id, event.object_type, event.object_id)
        pipeline.hset(mark, event.property_name, str(event.occurred_at))
        pipeline.expire(mark, newest_s)


def postpone(pipeline: Pipeline, later: Later) -> None:
    """Queue a later delivery of the events left; in this one they count as settled: they have moved."""
    delivery = later.runs[0].delivery
    now_ms = time.time_ns() // 1_000_000
    moved = replace(delivery, id=new_id(delivery.portal_id), entries=tuple(run.entry for run in later.runs))
    for run in later.runs:
        record(pipeline, run, moved_to=moved.id, delay_s=later.delay_s)
    pipeline.set(JOB_KEY_PREFIX + moved.id, job_payload(moved, now_ms))
    pipeline.zadd(QUEUE_NAME, {moved.id: now_ms + round(later.delay_s * 1000)})
    _mark_settled(pipeline, delivery, [run.entry.key for run in later.runs])


def record(pipeline: Pipeline, run: Run, *, moved_to: str = "", delay_s: float = 0.0) -> None:
    """Queue the records of a run: one of each change it made in HubSpot, then one of its outcome."""
    for write in run.writes:
        append(pipeline, _write_record(run, write))
    verdict = run.verdict
    outcome = event_record(
        run.event,
        verdict.outcome,
        key=run.entry.key,
        delivery_id=run.delivery.id,
        attempt=run.entry.attempt,
        reason=verdict.reason,
        handler=run.handler,
        detail={"moved_to": moved_to, "delay_s": round(delay_s, 3)} if moved_to else {},
    )
    append(pipeline, replace(outcome, correlation_id=verdict.correlation_id))


def _write_record(run: Run, write: "Write") -> AuditRecord:
    return AuditRecord(
        action=Action.CRM_WRITE,
        portal_id=run.delivery.portal_id,
        reason=write.reason,
        delivery_id=run.delivery.id,
        event_key=run.entry.key,
        event_id=run.event.event_id,
        object_type=write.object_type,
        object_id=write.object_id,
        handler=run.handler,
        correlation_id=write.correlation_id,
        detail={"method": write.method, "properties": list(write.properties), "ok": write.ok},
    )


def _mark_settled(pipeline: Pipeline, delivery: Delivery, event_keys: list[str]) -> None:
    settled = keys.settled(delivery.portal_id, delivery.id)
    pipeline.sadd(settled, *event_keys)
    pipeline.expire(settled, _SETTLED_KEEP_S)
