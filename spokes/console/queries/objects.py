"""Which CRM objects a reference may mean. Rule: an id is unique within a portal and a type, so it may be several.

Which CRM object is meant: an id, or a link copied from HubSpot. Rule: pure; what is neither is said so.

Under which ids a CRM object has lived: what was merged into it, and what it was merged into.

Rule: the audit says it for as long as it is kept; Redis knows of merges that are not recorded yet.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis
from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.object_hashes import object_hash
from spokes.audit.records import Action
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import ERASED_OBJECTS, RECORDS
from spokes.console.queries.portal_scope import Portals, can_see, portal_filter
from spokes.console.queries.records import RecordView
from spokes.core.errors import AmbiguousReference
from spokes.core.events import OBJECT_TYPES
from spokes.core.redis import keys

# https://app.hubspot.com/contacts/50112233/record/0-1/318845120771, also app-eu1 and with a tail;
# and the older https://app.hubspot.com/contacts/50112233/contact/318845120771
_LINK: Final = re.compile(
    r"^https?://[\w.-]*hubspot\.com/[a-z-]+/(?P<portal>\d{1,18})/(?:record/(?P<type>\d+-\d+)|(?P<name>[a-z]+))/(?P<id>\d{1,20})(?:[/?#].*)?$"
)
_ID: Final = re.compile(r"^(?:(?P<type>[\w-]{1,100})[\s:/]+)?(?P<id>\d{1,20})$")


@dataclass(frozen=True, slots=True)
class Reference:
    """A CRM object as somebody names it; a type or portal that was not said is None."""

    object_id: str
    object_type: str | None = None
    portal_id: int | None = None

    @classmethod
    def from_text(cls, text: str) -> "Reference":
        """Read an id, `contact 51`, or a link.

        Raises:
            UnclearReference: it is none of these.
        """
        if link := _LINK.match(text.strip()):
            object_type = OBJECT_TYPES.get(link["type"], link["type"]) if link["type"] else link["name"]
            return cls(link["id"], object_type, int(link["portal"]))
        if plain := _ID.match(text.strip()):
            told = plain["type"]
            return cls(plain["id"], None if told is None else OBJECT_TYPES.get(told, told))
        raise AmbiguousReference


MAX_IDS: Final = 500  # ids; HubSpot refuses the 251st merge of one record
_MAX_HOPS: Final = 20


@dataclass(frozen=True, slots=True)
class MergedId:
    """Another id of the same object: `into` it or merged away `from` it."""

    object_id: str
    direction: str


async def other_ids(
    redis: Redis, engine: AsyncEngine, portal_id: int, object_type: str, object_id: str
) -> tuple[MergedId, ...]:
    """Return every other id that the object is known by, through merges of merges; `MOST` or more may not be all.

    Raises:
        AuditUnavailable, RedisError, OSError: who knows does not answer.
    """
    whose = (RECORDS.c.portal_id == portal_id, RECORDS.c.object_type == object_type)
    later = await _follow_merges(engine, whose, {object_id}, forward=True)
    end = object_id
    for _ in range(_MAX_HOPS):
        told = await redis.get(keys.surviving_id(portal_id, object_type, end))
        if told is None:
            break
        end = told.decode()
        later.add(end)
    later.discard(object_id)
    former = await _follow_merges(engine, whose, {object_id, *later}, forward=False) - later - {object_id}
    return (
        *(MergedId(name, "into") for name in sorted(later)),
        *(MergedId(name, "from") for name in sorted(former)),
    )


async def _follow_merges(
    engine: AsyncEngine, of_type: tuple[ColumnElement[bool], ...], ids: set[str], *, forward: bool
) -> set[str]:
    """Follow recorded merges from `ids` on, towards survivors or away from them."""
    known, news = set(ids), set(ids)
    for _ in range(_MAX_HOPS):
        if not news or len(known) > MAX_IDS:
            break
        news = await _follow_one_hop(engine, of_type, news, forward=forward) - known
        known |= news
    return known


async def _follow_one_hop(
    engine: AsyncEngine, of_type: tuple[ColumnElement[bool], ...], ids: set[str], *, forward: bool
) -> set[str]:
    away = RECORDS.c.action == Action.OBJECT_MERGED
    merge = (RECORDS.c.action == Action.EVENT) & or_(
        RECORDS.c.subscription_type == "object.merge", RECORDS.c.subscription_type.endswith(".merge")
    )
    here, there = (away, merge) if forward else (merge, away)
    query = select(RECORDS.c.event_key).where(RECORDS.c.object_id.in_(sorted(ids)), *of_type, here).limit(MAX_IDS)
    told = {row["event_key"] for row in await fetch(engine, query)} - {None}
    if not told:
        return set()
    query = select(RECORDS.c.object_id).where(RECORDS.c.event_key.in_(sorted(map(str, told))), *of_type, there)
    return {str(row["object_id"]) for row in await fetch(engine, query.limit(MAX_IDS)) if row["object_id"]}


_MAX_OBJECTS: Final = 20  # objects of one id


@dataclass(frozen=True, slots=True)
class MatchedObject:
    """A CRM object that the reference may mean, with its other ids."""

    portal_id: int
    object_type: str
    object_id: str
    others: tuple[MergedId, ...] = ()

    @property
    def ids(self) -> frozenset[str]:
        """Every id that it is known by."""
        return frozenset({self.object_id, *(merged.object_id for merged in self.others)})


@dataclass(frozen=True, slots=True)
class MatchedObjects:
    """The objects that a reference fits; `complete` unless it fits more, or one has more ids than are followed."""

    objects: tuple[MatchedObject, ...]
    is_complete: bool

    @property
    def ids(self) -> frozenset[str]:
        """Every id that any of them is known by."""
        return frozenset(one for thing in self.objects for one in thing.ids)

    def sql_filter(self) -> ColumnElement[bool]:
        """Return what SQL must ask of a record so that it is of one of them."""
        return or_(
            *(
                and_(
                    RECORDS.c.object_id.in_(sorted(thing.ids)),
                    RECORDS.c.portal_id == thing.portal_id,
                    RECORDS.c.object_type == thing.object_type,
                )
                for thing in self.objects
            )
        )

    def matches(self, record: RecordView) -> bool:
        """Whether a record is of one of them."""
        whose = (record.portal_id, record.object_type)
        return any(
            (thing.portal_id, thing.object_type) == whose and record.object_id in thing.ids for thing in self.objects
        )


async def find_objects(
    redis: Redis, engine: AsyncEngine, portals: Portals, reference: Reference, unarchived: Iterable[RecordView]
) -> MatchedObjects:
    """Return the objects that `reference` may mean, among them those that only the `fresh` records know.

    Raises:
        AuditUnavailable, RedisError, OSError: who knows does not answer.
    """
    if reference.portal_id is not None and reference.object_type is not None:
        found = {(reference.portal_id, reference.object_type)}
    else:
        asked = [RECORDS.c.object_id == reference.object_id, *_candidate_filter(portals, reference)]
        query = select(RECORDS.c.portal_id, RECORDS.c.object_type).where(*asked).distinct().limit(_MAX_OBJECTS + 1)
        found = {(int(row["portal_id"] or 0), str(row["object_type"])) for row in await fetch(engine, query)}
        found |= {
            (record.portal_id, record.object_type)
            for record in unarchived
            if record.object_id == reference.object_id and _is_candidate(record, portals, reference)
        }
    shown = [
        MatchedObject(*whose, reference.object_id, await other_ids(redis, engine, *whose, reference.object_id))
        for whose in sorted(found)[:_MAX_OBJECTS]
    ]
    return MatchedObjects(
        tuple(shown), len(found) <= _MAX_OBJECTS and all(len(thing.others) < MAX_IDS for thing in shown)
    )


async def find_erasure_time(engine: AsyncEngine, portals: Portals, reference: Reference, hash_key: bytes) -> int | None:
    """Return when the object was erased, the last if several fit (epoch ms); None when none was.

    Its records no longer name it, so it is known by a hash, which takes a portal and a type: what the reference does
    not say is tried as anything that was ever erased.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    whose = {(reference.portal_id, reference.object_type)}
    if None in (reference.portal_id, reference.object_type):
        erasures = select(RECORDS.c.portal_id, RECORDS.c.object_type).join(
            ERASED_OBJECTS, ERASED_OBJECTS.c.seq == RECORDS.c.seq
        )
        rows = await fetch(engine, erasures.where(*_candidate_filter(portals, reference)).distinct())
        whose = {(int(row["portal_id"] or 0), str(row["object_type"])) for row in rows}
    hashes = [
        object_hash(hash_key, portal_id, kind, reference.object_id) for portal_id, kind in whose if portal_id and kind
    ]
    query = (
        select(RECORDS.c.at)
        .join(ERASED_OBJECTS, ERASED_OBJECTS.c.seq == RECORDS.c.seq)
        .where(ERASED_OBJECTS.c.object_hash.in_(hashes))
    )
    found = await fetch(engine, query) if hashes else []
    return max((int(row["at"] or 0) for row in found), default=None)


def _candidate_filter(portals: Portals, reference: Reference) -> Sequence[ColumnElement[bool]]:
    asked = portal_filter(portals)
    if reference.portal_id is not None:
        asked.append(RECORDS.c.portal_id == reference.portal_id)
    if reference.object_type is not None:
        asked.append(RECORDS.c.object_type == reference.object_type)
    return asked


def _is_candidate(record: RecordView, portals: Portals, reference: Reference) -> bool:
    return (
        can_see(portals, record.portal_id)
        and reference.portal_id in {None, record.portal_id}
        and reference.object_type in {None, record.object_type}
    )
