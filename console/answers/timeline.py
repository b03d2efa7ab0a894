"""What happened to a CRM object: one timeline, from the door to HubSpot. Rule: bounded, and it says what it left out.

An ignored event leaves only a count in its delivery, so it cannot stand here; the page that shows this says so.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from redis.asyncio import Redis
from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncEngine

from audit.pseudonyms import pseudonym
from audit.queries import fetch
from audit.records import Action
from audit.tables import ERASED, RECORDS
from console.answers.events import together
from console.answers.letters import letters
from console.answers.merges import Merged, other_ids
from console.answers.queue import LOOKED_AT, Waiting, look_up, waiting
from console.answers.records import Recorded, newest, unarchived
from console.answers.references import Reference
from console.answers.scope import Portals, sees, within
from core.deliveries import Entry
from workers.dead_letters import DeadLetter
from workers.holdings import Subject

_RELATED: Final = 200  # event keys of which more is fetched
_HEADS: Final = 60  # deliveries of which the head is fetched, the newest; each is looked for among its records


@dataclass(frozen=True, slots=True)
class Thing:
    """A CRM object that the reference may mean, with its other ids."""

    portal_id: int
    object_type: str
    object_id: str
    others: tuple[Merged, ...] = ()

    @property
    def ids(self) -> frozenset[str]:
        """Every id that it is known by."""
        return frozenset({self.object_id, *(merged.object_id for merged in self.others)})


@dataclass(frozen=True, slots=True)
class Pending:
    """An event of the object that waits: in which delivery, and which of its entries."""

    job: Waiting
    entry: Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """What is known of an object.

    `records` are the newest first: its own, those of deliveries that brought its events, and writes to other objects
    that its events caused. `things` are the objects that the reference fits; usually one. `erased_at` is epoch ms.
    `truncated`: older records were left out. `unread`: part of queue or stream was not looked through.
    """

    reference: Reference
    things: tuple[Thing, ...] = ()
    records: tuple[Recorded, ...] = ()
    pending: tuple[Pending, ...] = ()
    letters: tuple[DeadLetter, ...] = ()
    erased_at: int | None = None
    truncated: bool = False
    unread: bool = False
    event_keys: frozenset[str] = field(default=frozenset(), repr=False)


async def timeline(
    redis: Redis, engine: AsyncEngine, portals: Portals, reference: Reference, *, key: bytes, limit: int = 200
) -> Timeline:
    """Return what happened to the object that `reference` names.

    Args:
        key: `audit.pseudonyms.pseudonym_key(settings.master_key())`, by which an erased object is recognised.
        limit: own records, the newest.

    Raises:
        AuditUnavailable, RedisError, OSError: who knows does not answer.
    """
    if reference.portal_id is not None and not sees(portals, reference.portal_id):
        return Timeline(reference=reference)
    queued = await waiting(redis, portals)
    fresh = await unarchived(redis, [reference.object_id])
    things = await _things(redis, engine, portals, reference, (*fresh.records, *map(_as_record, _entries(queued))))
    ids = sorted({object_id for thing in things for object_id in thing.ids} - {reference.object_id})
    if ids:
        fresh = await unarchived(redis, [reference.object_id, *ids])
    own = await newest(engine, [_any_of(things), *within(portals)], limit + 1) if things else []
    fresh_own = [record for record in fresh.records if _is_of(record, things)]
    records = together(fresh_own, own[:limit])
    event_keys = frozenset(record.event_key for record in records if record.event_key)
    related = await _related(engine, portals, records, event_keys)
    pending = await _pending(redis, things, queued, records)
    dead = [letter async for letter in letters(redis, portals, keys=event_keys)] if event_keys else []
    return Timeline(
        reference=reference, things=things, records=together([], [*records, *related]), pending=pending,
        letters=tuple(dead), erased_at=await _erased_at(engine, portals, reference, things, key),
        truncated=len(own) > limit, unread=not fresh.complete or len(queued) >= LOOKED_AT, event_keys=event_keys,
    )  # fmt: skip


async def _things(
    redis: Redis, engine: AsyncEngine, portals: Portals, reference: Reference, fresh: Iterable[Recorded]
) -> tuple[Thing, ...]:
    """Find out which objects the reference may mean: an id is unique within a portal and a type only."""
    asked = [RECORDS.c.object_id == reference.object_id, *within(portals)]
    if reference.portal_id is not None:
        asked.append(RECORDS.c.portal_id == reference.portal_id)
    if reference.object_type is not None:
        asked.append(RECORDS.c.object_type == reference.object_type)
    query = select(RECORDS.c.portal_id, RECORDS.c.object_type).where(*asked).distinct().limit(20)
    found = {(int(row["portal_id"] or 0), str(row["object_type"])) for row in await fetch(engine, query)}
    found |= {
        (record.portal_id, record.object_type)
        for record in fresh
        if record.object_id == reference.object_id and _fits(record, portals, reference)
    }
    if reference.portal_id is not None and reference.object_type is not None:
        found.add((reference.portal_id, reference.object_type))
    return tuple(
        [
            Thing(*whose, reference.object_id, await other_ids(redis, engine, *whose, reference.object_id))
            for whose in sorted(found)
        ]
    )


def _fits(record: Recorded, portals: Portals, reference: Reference) -> bool:
    return (
        sees(portals, record.portal_id)
        and reference.portal_id in {None, record.portal_id}
        and reference.object_type in {None, record.object_type}
    )


def _any_of(things: Sequence[Thing]) -> ColumnElement[bool]:
    return or_(
        *(
            and_(
                RECORDS.c.object_id.in_(sorted(thing.ids)),
                RECORDS.c.portal_id == thing.portal_id,
                RECORDS.c.object_type == thing.object_type,
            )
            for thing in things
        )
    )


def _is_of(record: Recorded, things: Sequence[Thing]) -> bool:
    whose = (record.portal_id, record.object_type)
    return any((thing.portal_id, thing.object_type) == whose and record.object_id in thing.ids for thing in things)


async def _related(
    engine: AsyncEngine, portals: Portals, records: Sequence[Recorded], event_keys: frozenset[str]
) -> list[Recorded]:
    """Heads of the deliveries that brought the events, and what the events did to other objects."""
    known = {record.id for record in records}
    deliveries = list(dict.fromkeys(record.delivery_id for record in records if record.delivery_id))[:_HEADS]
    heads = [RECORDS.c.delivery_id.in_(deliveries), RECORDS.c.action == Action.DELIVERY_RECEIVED, *within(portals)]
    writes = [
        RECORDS.c.event_key.in_(sorted(event_keys)[:_RELATED]),
        RECORDS.c.action == Action.CRM_WRITE,
        *within(portals),
    ]
    found = await newest(engine, heads, _HEADS) if deliveries else []
    found += await newest(engine, writes, _RELATED) if event_keys else []
    return [record for record in found if record.id not in known]


def _entries(jobs: Iterable[Waiting]) -> list[Pending]:
    return [Pending(job, entry) for job in jobs for entry in job.delivery.entries]


def _as_record(pending: Pending) -> Recorded:
    """What a waiting event would be called in a record, so that an object nothing is recorded of yet is found too."""
    event = pending.entry.event
    return Recorded(
        id="", at=0, action="", portal_id=event.portal_id, object_type=event.object_type, object_id=event.object_id
    )


async def _pending(
    redis: Redis, things: Sequence[Thing], queued: list[Waiting], records: Sequence[Recorded]
) -> tuple[Pending, ...]:
    """Return what waits of the object: first in line, or put off as its records tell."""
    seen = {job.delivery.id for job in queued}
    moved = dict.fromkeys(str(record.detail["moved_to"]) for record in records if record.detail.get("moved_to"))
    jobs = [*queued, *await look_up(redis, [name for name in moved if name not in seen][:_RELATED])]
    subjects = [Subject(thing.portal_id, thing.object_type, thing.ids) for thing in things]
    found = [
        Pending(job, entry)
        for job in jobs
        for entry in job.delivery.entries
        if any(subject.concerns(entry.event) for subject in subjects)
    ]
    return tuple(sorted(found, key=lambda pending: pending.job.due_at))


async def _erased_at(
    engine: AsyncEngine, portals: Portals, reference: Reference, things: Sequence[Thing], key: bytes
) -> int | None:
    """When the object was erased, by its hash; its records no longer name it, and are not looked for."""
    whose = {(thing.portal_id, thing.object_type) for thing in things}
    if reference.portal_id is not None:
        whose.add((reference.portal_id, reference.object_type or "contact"))
    elif portals:
        whose |= {(portal_id, reference.object_type or "contact") for portal_id in portals}
    hashes = [pseudonym(key, *which, reference.object_id) for which in sorted(whose)]
    query = select(RECORDS.c.at).join(ERASED, ERASED.c.seq == RECORDS.c.seq).where(ERASED.c.object_hash.in_(hashes))
    rows = await fetch(engine, query) if hashes else []
    return max((int(row["at"] or 0) for row in rows), default=None)
