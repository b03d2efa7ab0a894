"""Which CRM objects a reference may mean. Rule: an id is unique within a portal and a type, so it may be several."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis
from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.object_hashes import pseudonym
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import ERASED, RECORDS
from spokes.console.queries.merges import MOST, Merged, other_ids
from spokes.console.queries.portal_scope import Portals, sees, within
from spokes.console.queries.records import Recorded
from spokes.console.queries.references import Reference

_SHOWN: Final = 20  # objects of one id


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
class Things:
    """The objects that a reference fits; `complete` unless it fits more, or one has more ids than are followed."""

    shown: tuple[Thing, ...]
    complete: bool

    @property
    def ids(self) -> frozenset[str]:
        """Every id that any of them is known by."""
        return frozenset(one for thing in self.shown for one in thing.ids)

    def own(self) -> ColumnElement[bool]:
        """Return what SQL must ask of a record so that it is of one of them."""
        return or_(
            *(
                and_(
                    RECORDS.c.object_id.in_(sorted(thing.ids)),
                    RECORDS.c.portal_id == thing.portal_id,
                    RECORDS.c.object_type == thing.object_type,
                )
                for thing in self.shown
            )
        )

    def owns(self, record: Recorded) -> bool:
        """Whether a record is of one of them."""
        whose = (record.portal_id, record.object_type)
        return any(
            (thing.portal_id, thing.object_type) == whose and record.object_id in thing.ids for thing in self.shown
        )


async def find_things(
    redis: Redis, engine: AsyncEngine, portals: Portals, reference: Reference, fresh: Iterable[Recorded]
) -> Things:
    """Return the objects that `reference` may mean, among them those that only the `fresh` records know.

    Raises:
        AuditUnavailable, RedisError, OSError: who knows does not answer.
    """
    if reference.portal_id is not None and reference.object_type is not None:
        found = {(reference.portal_id, reference.object_type)}
    else:
        asked = [RECORDS.c.object_id == reference.object_id, *_fitting(portals, reference)]
        query = select(RECORDS.c.portal_id, RECORDS.c.object_type).where(*asked).distinct().limit(_SHOWN + 1)
        found = {(int(row["portal_id"] or 0), str(row["object_type"])) for row in await fetch(engine, query)}
        found |= {
            (record.portal_id, record.object_type)
            for record in fresh
            if record.object_id == reference.object_id and _fits(record, portals, reference)
        }
    shown = [
        Thing(*whose, reference.object_id, await other_ids(redis, engine, *whose, reference.object_id))
        for whose in sorted(found)[:_SHOWN]
    ]
    return Things(tuple(shown), len(found) <= _SHOWN and all(len(thing.others) < MOST for thing in shown))


async def erased_at(engine: AsyncEngine, portals: Portals, reference: Reference, key: bytes) -> int | None:
    """Return when the object was erased, the last if several fit (epoch ms); None when none was.

    Its records no longer name it, so it is known by a hash, which takes a portal and a type: what the reference does
    not say is tried as anything that was ever erased.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    whose = {(reference.portal_id, reference.object_type)}
    if None in (reference.portal_id, reference.object_type):
        erasures = select(RECORDS.c.portal_id, RECORDS.c.object_type).join(ERASED, ERASED.c.seq == RECORDS.c.seq)
        rows = await fetch(engine, erasures.where(*_fitting(portals, reference)).distinct())
        whose = {(int(row["portal_id"] or 0), str(row["object_type"])) for row in rows}
    hashes = [pseudonym(key, portal_id, kind, reference.object_id) for portal_id, kind in whose if portal_id and kind]
    query = select(RECORDS.c.at).join(ERASED, ERASED.c.seq == RECORDS.c.seq).where(ERASED.c.object_hash.in_(hashes))
    found = await fetch(engine, query) if hashes else []
    return max((int(row["at"] or 0) for row in found), default=None)


def _fitting(portals: Portals, reference: Reference) -> Sequence[ColumnElement[bool]]:
    asked = within(portals)
    if reference.portal_id is not None:
        asked.append(RECORDS.c.portal_id == reference.portal_id)
    if reference.object_type is not None:
        asked.append(RECORDS.c.object_type == reference.object_type)
    return asked


def _fits(record: Recorded, portals: Portals, reference: Reference) -> bool:
    return (
        sees(portals, record.portal_id)
        and reference.portal_id in {None, record.portal_id}
        and reference.object_type in {None, record.object_type}
    )
