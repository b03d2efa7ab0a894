"""Everything that happened to one CRM object, from its receipt to HubSpot, in pages.

It includes the deliveries and redeliveries of the object's events and what these events wrote to other objects, looked
up by id so that the cost does not grow with other objects' records. Ignored events are missing: their delivery keeps
only a count.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis
from sqlalchemy import Text, column, select, values
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.records import Action
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import RECORDS
from spokes.console.queries.dead_letters import find_dead_letters
from spokes.console.queries.history.objects import (
    MatchedObject,
    MatchedObjects,
    Reference,
    find_erasure_time,
    find_objects,
)
from spokes.console.queries.history.records import Page, RecordView, fetch_page, newest_records
from spokes.console.queries.history.redeliveries import find_redeliveries
from spokes.console.queries.history.unarchived import load_unarchived, merge_with_stored
from spokes.console.queries.portal_scope import Portals, can_see, portal_filter
from spokes.console.queries.queue import MAX_DELIVERIES_READ, WaitingDelivery, find_waiting, waiting_deliveries
from spokes.core.delivery import Entry
from spokes.privacy.redis_data import DataSubject
from spokes.queue.dead_letters import DeadLetter

_MAX_WRITES: Final = 1_000  # of the events on one page


@dataclass(frozen=True, slots=True)
class PendingEvent:
    """A waiting event of the object: its delivery in the queue, and its entry there."""

    job: WaitingDelivery
    entry: Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """A page of an object's timeline.

    `records` are newest first: those of the object, of the deliveries and redeliveries of its events, and of writes to
    other objects that its events caused; such a record can be on two pages. `objects` match the reference; usually one.
    `erased_at` is epoch ms. `next` is the cursor for older records, None if there are none. `truncated` is true if more
    objects match, they have more ids, or their events wrote more than a page shows; `incomplete` if part of the queue
    or the stream was not read.
    """

    reference: Reference
    objects: tuple[MatchedObject, ...] = ()
    records: tuple[RecordView, ...] = ()
    pending: tuple[PendingEvent, ...] = ()
    letters: tuple[DeadLetter, ...] = ()
    erased_at: int | None = None
    next: str | None = None
    truncated: bool = False
    incomplete: bool = False


async def load_timeline(
    redis: Redis,
    engine: AsyncEngine,
    portals: Portals,
    reference: Reference,
    *,
    hash_key: bytes,
    limit: int = 200,
    after: str | None = None,
) -> Timeline:
    """Return the timeline of the objects that match `reference`.

    Args:
        hash_key: the key by which an erased object is recognised, `spokes.audit.object_hashes.object_hash_key(...)`.
        limit: how many of the object's own records to return.
        after: the `next` of the page before.

    Raises:
        ValueError: `after` is not a cursor.
        AuditUnavailable, RedisError, OSError: the audit store or Redis does not answer.
    """
    if reference.portal_id is not None and not can_see(portals, reference.portal_id):
        return Timeline(reference=reference)
    queued = await waiting_deliveries(redis, portals)
    stream = await load_unarchived(redis)
    unstored = [*stream.records_naming(reference.object_id), *map(_as_record, _pending_events(queued))]
    matched = await find_objects(redis, engine, portals, reference, unstored)
    own: Page[RecordView] = Page(())
    if matched.objects:
        own = await fetch_page(engine, [matched.sql_filter(), *portal_filter(portals)], limit=limit, after=after)
    # Unarchived records are newer than almost all stored ones, so they are on the first page.
    unarchived = [] if after else list(filter(matched.matches, stream.records_naming(*matched.ids)))
    related = merge_with_stored(unarchived, own.items)
    event_keys = {record.event_key for record in related if record.event_key}
    deliveries = {record.delivery_id for record in related if record.delivery_id}
    written, all_written = await _crm_writes(engine, portals, event_keys)
    opened = await _delivery_records(engine, portals, deliveries)
    oldest = min((record.at for record in related), default=0)
    redelivered = await find_redeliveries(engine, stream, portals, event_keys, since=oldest)
    unstored = [
        record for record in stream.records_naming(*event_keys, *deliveries) if can_see(portals, record.portal_id)
    ]
    caused = [record for record in unstored if _is_caused_by(record, event_keys, deliveries)]
    return Timeline(
        reference=reference,
        objects=matched.objects,
        records=merge_with_stored([*unarchived, *caused], [*own.items, *written, *opened, *redelivered]),
        pending=await _find_pending(redis, matched, queued, related),
        letters=tuple(
            [letter async for letter in find_dead_letters(redis, portals, keys=event_keys)] if event_keys else ()
        ),
        erased_at=await find_erasure_time(engine, portals, reference, hash_key),
        next=own.next,
        truncated=not (matched.is_complete and all_written),
        incomplete=not stream.is_complete or len(queued) >= MAX_DELIVERIES_READ,
    )


async def _delivery_records(engine: AsyncEngine, portals: Portals, deliveries: Collection[str]) -> list[RecordView]:
    """Return the `delivery.received` records of these deliveries; those that only retry events have none.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    if not deliveries:
        return []
    # One index lookup per delivery: the record is a delivery's first, and hundreds may follow it.
    named = values(column("id", Text), name="named").data([(name,) for name in deliveries]).cte("named")
    first = (
        select(RECORDS.c.seq)
        .where(
            RECORDS.c.delivery_id == named.c.id, RECORDS.c.action == Action.DELIVERY_RECEIVED, *portal_filter(portals)
        )
        .order_by(RECORDS.c.at, RECORDS.c.seq)
        .limit(1)
        .correlate(named)
        .scalar_subquery()
    )
    seqs = {int(row["seq"]) for row in await fetch(engine, select(first.label("seq")).select_from(named)) if row["seq"]}
    return await newest_records(engine, [RECORDS.c.seq.in_(sorted(seqs))], len(seqs)) if seqs else []


async def _crm_writes(
    engine: AsyncEngine, portals: Portals, event_keys: Collection[str]
) -> tuple[Sequence[RecordView], bool]:
    """Return the writes to HubSpot caused by these events, newest first, and whether the list is complete.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    if not event_keys:
        return [], True
    conditions = [
        RECORDS.c.event_key.in_(sorted(event_keys)),
        RECORDS.c.action == Action.CRM_WRITE,
        *portal_filter(portals),
    ]
    records = await newest_records(engine, conditions, _MAX_WRITES + 1)
    return records[:_MAX_WRITES], len(records) <= _MAX_WRITES


def _is_caused_by(record: RecordView, event_keys: set[str], deliveries: set[str]) -> bool:
    if record.action == Action.CRM_WRITE:
        return record.event_key in event_keys
    return record.action == Action.DELIVERY_RECEIVED and record.delivery_id in deliveries


def _pending_events(jobs: Iterable[WaitingDelivery]) -> list[PendingEvent]:
    return [PendingEvent(job, entry) for job in jobs for entry in job.delivery.entries]


def _as_record(pending: PendingEvent) -> RecordView:
    """Return a waiting event as a record, so that an object without any record is found too."""
    event = pending.entry.event
    return RecordView(
        id="", at=0, action="", portal_id=event.portal_id, object_type=event.object_type, object_id=event.object_id
    )


async def _find_pending(
    redis: Redis, matched: MatchedObjects, queued: list[WaitingDelivery], records: Sequence[RecordView]
) -> tuple[PendingEvent, ...]:
    """Return the objects' waiting events: those early in the queue, and those that records say were postponed."""
    seen = {job.delivery.id for job in queued}
    moved = dict.fromkeys(str(record.detail["moved_to"]) for record in records if record.detail.get("moved_to"))
    jobs = [*queued, *await find_waiting(redis, [name for name in moved if name not in seen])]
    subjects = [
        DataSubject(matched_object.portal_id, matched_object.object_type, matched_object.ids)
        for matched_object in matched.objects
    ]
    waiting = [
        pending
        for pending in _pending_events(jobs)
        if any(subject.matches(pending.entry.event) for subject in subjects)
    ]
    return tuple(sorted(waiting, key=lambda pending: pending.job.due_at))
