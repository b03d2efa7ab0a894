"""What happened to a CRM object: one timeline, from the door to HubSpot. Rule: bounded, and it says what it left out.

An ignored event leaves only a count in its delivery, so it cannot stand here; the page that shows this says so.

What belongs to an object's records without being of the object. Rule: asked by name, so that others' cost nothing.

These are the deliveries that brought its events, and what its events wrote to other objects.
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
from spokes.console.queries.objects import MatchedObject, MatchedObjects, Reference, find_erasure_time, find_objects
from spokes.console.queries.portal_scope import Portals, can_see, portal_filter
from spokes.console.queries.queue import MAX_DELIVERIES_READ, WaitingDelivery, find_waiting, waiting_deliveries
from spokes.console.queries.records import Page, RecordView, fetch_page, newest_records
from spokes.console.queries.unarchived import load_unarchived, merge_with_stored
from spokes.core.delivery import Entry
from spokes.privacy.redis_data import DataSubject
from spokes.queue.dead_letters import DeadLetter

_MAX_WRITES: Final = 1_000  # of the events of one page, the newest


async def delivery_records(engine: AsyncEngine, portals: Portals, deliveries: Collection[str]) -> list[RecordView]:
    """Return the records that open these deliveries; those that only tried events again have none.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    if not deliveries:
        return []
    # One step of an index for each: a delivery opens with its head, and has hundreds of records after it.
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
    places = {
        int(row["seq"]) for row in await fetch(engine, select(first.label("seq")).select_from(named)) if row["seq"]
    }
    return await newest_records(engine, [RECORDS.c.seq.in_(sorted(places))], len(places)) if places else []


async def crm_writes(
    engine: AsyncEngine, portals: Portals, event_keys: Collection[str]
) -> tuple[Sequence[RecordView], bool]:
    """Return what these events wrote to HubSpot, the newest first; and whether that is all.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    if not event_keys:
        return [], True
    asked = [RECORDS.c.event_key.in_(sorted(event_keys)), RECORDS.c.action == Action.CRM_WRITE, *portal_filter(portals)]
    found = await newest_records(engine, asked, _MAX_WRITES + 1)
    return found[:_MAX_WRITES], len(found) <= _MAX_WRITES


@dataclass(frozen=True, slots=True)
class PendingEvent:
    """An event of the object that waits: in which delivery, and which of its entries."""

    job: WaitingDelivery
    entry: Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """What is known of an object, or a page of it.

    `records` are the newest first: its own, those of deliveries that brought its events, and writes to other objects
    that its events caused; what belongs to records of two pages stands on both. `things` are the objects that the
    reference fits; usually one. `erased_at` is epoch ms. `next` asks for older records, None when there are none.
    `truncated`: it fits more objects, they have more ids or their events wrote more than is shown on any page.
    `unread`: part of queue or stream was not looked through.
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
    """Return what happened to the object that `reference` names.

    Args:
        key: `spokes.audit.object_hashes.pseudonym_key(settings.master_key())`, by which an erased object is recognised.
        limit: own records, the newest.
        after: the `next` of the page before.

    Raises:
        ValueError: `after` is no such place.
        AuditUnavailable, RedisError, OSError: who knows does not answer.
    """
    if reference.portal_id is not None and not can_see(portals, reference.portal_id):
        return Timeline(reference=reference)
    queued = await waiting_deliveries(redis, portals)
    stream = await load_unarchived(redis)
    unstored = [*stream.records_naming(reference.object_id), *map(_as_record, _pending_events(queued))]
    things = await find_objects(redis, engine, portals, reference, unstored)
    own: Page[RecordView] = Page(())
    if things.objects:
        own = await fetch_page(engine, [things.sql_filter(), *portal_filter(portals)], limit=limit, after=after)
    # What waits in the stream is newer than what is stored, but for moments: it stands on the first page.
    fresh = [] if after else list(filter(things.matches, stream.records_naming(*things.ids)))
    mine = merge_with_stored(fresh, own.items)
    event_keys = {record.event_key for record in mine if record.event_key}
    deliveries = {record.delivery_id for record in mine if record.delivery_id}
    written, all_written = await crm_writes(engine, portals, event_keys)
    opened = await delivery_records(engine, portals, deliveries)
    unstored = [
        record for record in stream.records_naming(*event_keys, *deliveries) if can_see(portals, record.portal_id)
    ]
    caused = [record for record in unstored if _is_caused_by(record, event_keys, deliveries)]
    return Timeline(
        reference=reference,
        objects=things.objects,
        records=merge_with_stored([*fresh, *caused], [*own.items, *written, *opened]),
        pending=await _find_pending(redis, things, queued, mine),
        letters=tuple(
            [letter async for letter in find_dead_letters(redis, portals, keys=event_keys)] if event_keys else ()
        ),
        erased_at=await find_erasure_time(engine, portals, reference, hash_key),
        next=own.next,
        truncated=not (things.is_complete and all_written),
        incomplete=not stream.is_complete or len(queued) >= MAX_DELIVERIES_READ,
    )


def _is_caused_by(record: RecordView, event_keys: set[str], deliveries: set[str]) -> bool:
    if record.action == Action.CRM_WRITE:
        return record.event_key in event_keys
    return record.action == Action.DELIVERY_RECEIVED and record.delivery_id in deliveries


def _pending_events(jobs: Iterable[WaitingDelivery]) -> list[PendingEvent]:
    return [PendingEvent(job, entry) for job in jobs for entry in job.delivery.entries]


def _as_record(pending: PendingEvent) -> RecordView:
    """What a waiting event would be called in a record, so that an object nothing is recorded of yet is found too."""
    event = pending.entry.event
    return RecordView(
        id="", at=0, action="", portal_id=event.portal_id, object_type=event.object_type, object_id=event.object_id
    )


async def _find_pending(
    redis: Redis, matched: MatchedObjects, queued: list[WaitingDelivery], records: Sequence[RecordView]
) -> tuple[PendingEvent, ...]:
    """Return what waits of the object: first in line, or put off as its records tell."""
    seen = {job.delivery.id for job in queued}
    moved = dict.fromkeys(str(record.detail["moved_to"]) for record in records if record.detail.get("moved_to"))
    jobs = [*queued, *await find_waiting(redis, [name for name in moved if name not in seen])]
    subjects = [DataSubject(thing.portal_id, thing.object_type, thing.ids) for thing in matched.objects]
    found = [
        pending
        for pending in _pending_events(jobs)
        if any(subject.matches(pending.entry.event) for subject in subjects)
    ]
    return tuple(sorted(found, key=lambda pending: pending.job.due_at))
