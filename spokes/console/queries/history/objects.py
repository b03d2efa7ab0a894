"""Resolve a reference to CRM objects with all their ids: those before and after merges.

An object id is unique only within a portal and a type, so one reference may match several objects. Merges are read
from the audit and, if not recorded yet, from Redis.
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
from spokes.console.queries.history.records import RecordView
from spokes.console.queries.portal_scope import Portals, can_see, portal_filter
from spokes.core.errors import AmbiguousReference
from spokes.core.events import OBJECT_TYPES
from spokes.core.redis import keys

MAX_IDS: Final = 500  # of one object; HubSpot refuses the 251st merge of one record
_MAX_HOPS: Final = 20  # merges followed from one id
_MAX_OBJECTS: Final = 20  # shown for one reference
# https://app.hubspot.com/contacts/50112233/record/0-1/318845120771, also app-eu1 and with a tail;
# and the older https://app.hubspot.com/contacts/50112233/contact/318845120771
_LINK: Final = re.compile(
    r"^https?://[\w.-]*hubspot\.com/[a-z-]+/(?P<portal>\d{1,18})/(?:record/(?P<type>\d+-\d+)|(?P<name>[a-z]+))/(?P<id>\d{1,20})(?:[/?#].*)?$"
)
_ID: Final = re.compile(r"^(?:(?P<type>[\w-]{1,100})[\s:/]+)?(?P<id>\d{1,20})$")


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference to a CRM object; type or portal is None if not given."""

    object_id: str
    object_type: str | None = None
    portal_id: int | None = None

    @classmethod
    def from_text(cls, text: str) -> "Reference":
        """Read an id, `contact 51`, or a link.

        Raises:
            AmbiguousReference: it is none of these.
        """
        if link := _LINK.match(text.strip()):
            object_type = OBJECT_TYPES.get(link["type"], link["type"]) if link["type"] else link["name"]
            return cls(link["id"], object_type, int(link["portal"]))
        if plain := _ID.match(text.strip()):
            object_type = plain["type"]
            return cls(plain["id"], None if object_type is None else OBJECT_TYPES.get(object_type, object_type))
        raise AmbiguousReference


@dataclass(frozen=True, slots=True)
class MergedId:
    """Another id of the same object; `direction` is `into` for a surviving id, `from` for an id merged into it."""

    object_id: str
    direction: str


async def other_ids(
    redis: Redis, engine: AsyncEngine, portal_id: int, object_type: str, object_id: str
) -> tuple[MergedId, ...]:
    """Return every other id of the object, through merges of merges; with `MAX_IDS` or more the list may be incomplete.

    Raises:
        AuditUnavailable, RedisError, OSError: the audit store or Redis does not answer.
    """
    of_type = (RECORDS.c.portal_id == portal_id, RECORDS.c.object_type == object_type)
    survivors = await _follow_merges(engine, of_type, {object_id}, forward=True)
    newest_id = object_id
    for _ in range(_MAX_HOPS):
        surviving_id = await redis.get(keys.surviving_id(portal_id, object_type, newest_id))
        if surviving_id is None:
            break
        newest_id = surviving_id.decode()
        survivors.add(newest_id)
    survivors.discard(object_id)
    merged = await _follow_merges(engine, of_type, {object_id, *survivors}, forward=False) - survivors - {object_id}
    return (
        *(MergedId(name, "into") for name in sorted(survivors)),
        *(MergedId(name, "from") for name in sorted(merged)),
    )


async def _follow_merges(
    engine: AsyncEngine, of_type: tuple[ColumnElement[bool], ...], ids: set[str], *, forward: bool
) -> set[str]:
    """Return `ids` and all ids reached by recorded merges, towards survivors (`forward`) or away from them."""
    known, added = set(ids), set(ids)
    for _ in range(_MAX_HOPS):
        if not added or len(known) > MAX_IDS:
            break
        added = await _follow_one_hop(engine, of_type, added, forward=forward) - known
        known |= added
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
    event_keys = {row["event_key"] for row in await fetch(engine, query)} - {None}
    if not event_keys:
        return set()
    query = select(RECORDS.c.object_id).where(RECORDS.c.event_key.in_(sorted(map(str, event_keys))), *of_type, there)
    return {str(row["object_id"]) for row in await fetch(engine, query.limit(MAX_IDS)) if row["object_id"]}


@dataclass(frozen=True, slots=True)
class MatchedObject:
    """A CRM object that matches the reference, with its other ids."""

    portal_id: int
    object_type: str
    object_id: str
    others: tuple[MergedId, ...] = ()

    @property
    def ids(self) -> frozenset[str]:
        """Every id of the object."""
        return frozenset({self.object_id, *(merged.object_id for merged in self.others)})


@dataclass(frozen=True, slots=True)
class MatchedObjects:
    """The objects that match a reference; `is_complete` unless more match, or one has more ids than are followed."""

    objects: tuple[MatchedObject, ...]
    is_complete: bool

    @property
    def ids(self) -> frozenset[str]:
        """Every id of any of the objects."""
        return frozenset(object_id for matched in self.objects for object_id in matched.ids)

    def sql_filter(self) -> ColumnElement[bool]:
        """Return the SQL condition for records of one of the objects."""
        return or_(
            *(
                and_(
                    RECORDS.c.object_id.in_(sorted(matched.ids)),
                    RECORDS.c.portal_id == matched.portal_id,
                    RECORDS.c.object_type == matched.object_type,
                )
                for matched in self.objects
            )
        )

    def matches(self, record: RecordView) -> bool:
        """Return whether a record is of one of the objects."""
        type_of_record = (record.portal_id, record.object_type)
        return any(
            (matched.portal_id, matched.object_type) == type_of_record and record.object_id in matched.ids
            for matched in self.objects
        )


async def find_objects(
    redis: Redis, engine: AsyncEngine, portals: Portals, reference: Reference, unarchived: Iterable[RecordView]
) -> MatchedObjects:
    """Return the objects that match `reference`, in the store or in `unarchived` records.

    Raises:
        AuditUnavailable, RedisError, OSError: the audit store or Redis does not answer.
    """
    if reference.portal_id is not None and reference.object_type is not None:
        types = {(reference.portal_id, reference.object_type)}
    else:
        conditions = [RECORDS.c.object_id == reference.object_id, *_candidate_filter(portals, reference)]
        query = select(RECORDS.c.portal_id, RECORDS.c.object_type).where(*conditions).distinct().limit(_MAX_OBJECTS + 1)
        types = {(int(row["portal_id"] or 0), str(row["object_type"])) for row in await fetch(engine, query)}
        types |= {
            (record.portal_id, record.object_type)
            for record in unarchived
            if record.object_id == reference.object_id and _is_candidate(record, portals, reference)
        }
    objects = [
        MatchedObject(
            *portal_and_type, reference.object_id, await other_ids(redis, engine, *portal_and_type, reference.object_id)
        )
        for portal_and_type in sorted(types)[:_MAX_OBJECTS]
    ]
    return MatchedObjects(
        tuple(objects), len(types) <= _MAX_OBJECTS and all(len(matched.others) < MAX_IDS for matched in objects)
    )


async def find_erasure_time(engine: AsyncEngine, portals: Portals, reference: Reference, hash_key: bytes) -> int | None:
    """Return when the object was erased (epoch ms), the latest if several match; None if none was.

    Records of an erased object contain a keyed hash of portal, type and id in place of the id. If the reference lacks
    portal or type, the hashes of all combinations that were ever erased are tried.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    types = {(reference.portal_id, reference.object_type)}
    if None in (reference.portal_id, reference.object_type):
        erasures = select(RECORDS.c.portal_id, RECORDS.c.object_type).join(
            ERASED_OBJECTS, ERASED_OBJECTS.c.seq == RECORDS.c.seq
        )
        rows = await fetch(engine, erasures.where(*_candidate_filter(portals, reference)).distinct())
        types = {(int(row["portal_id"] or 0), str(row["object_type"])) for row in rows}
    hashes = [
        object_hash(hash_key, portal_id, object_type, reference.object_id)
        for portal_id, object_type in types
        if portal_id and object_type
    ]
    query = (
        select(RECORDS.c.at)
        .join(ERASED_OBJECTS, ERASED_OBJECTS.c.seq == RECORDS.c.seq)
        .where(ERASED_OBJECTS.c.object_hash.in_(hashes))
    )
    rows = await fetch(engine, query) if hashes else []
    return max((int(row["at"] or 0) for row in rows), default=None)


def _candidate_filter(portals: Portals, reference: Reference) -> Sequence[ColumnElement[bool]]:
    conditions = portal_filter(portals)
    if reference.portal_id is not None:
        conditions.append(RECORDS.c.portal_id == reference.portal_id)
    if reference.object_type is not None:
        conditions.append(RECORDS.c.object_type == reference.object_type)
    return conditions


def _is_candidate(record: RecordView, portals: Portals, reference: Reference) -> bool:
    return (
        can_see(portals, record.portal_id)
        and reference.portal_id in {None, record.portal_id}
        and reference.object_type in {None, record.object_type}
    )
