"""The objects that were read, written or exported in a period, for the assessment of an incident.

The audit names the object of each event that a handler received, and of each write. Other objects that a handler read
are not recorded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

from sqlalchemy import ColumnElement, and_, case, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.records import Action, Outcome
from spokes.audit.sql.queries import Filters, fetch
from spokes.audit.sql.tables import RECORDS


@unique
class Access(StrEnum):
    """How an object was used."""

    READ = "read"  # a handler received an event of the object
    WRITTEN = "written"
    WRITE_FAILED = "write_failed"  # without a response, HubSpot may have made the write
    EXPORTED = "exported"
    REVEALED = "revealed"  # an operator was shown the values of a dead letter


@dataclass(frozen=True, slots=True)
class AffectedObject:
    """One object; `object_id` is None if it was erased. `first_at` and `last_at` are epoch ms."""

    portal_id: int
    object_type: str
    object_id: str | None
    object_hash: str
    access: tuple[Access, ...]
    records: int
    first_at: int
    last_at: int


_RECEIVED: Final = (Outcome.PROCESSED, Outcome.COALESCED, Outcome.RETRIED, Outcome.PARKED, Outcome.DEAD)
_IS_WRITE: Final = RECORDS.c.action == Action.CRM_WRITE
_CONDITIONS: Final[Mapping[Access, ColumnElement[bool]]] = {
    Access.READ: and_(
        RECORDS.c.action == Action.EVENT, RECORDS.c.handler.is_not(None), RECORDS.c.outcome.in_(_RECEIVED)
    ),
    Access.WRITTEN: and_(_IS_WRITE, RECORDS.c.reason.is_(None)),
    Access.WRITE_FAILED: and_(_IS_WRITE, RECORDS.c.reason.is_not(None)),
    Access.EXPORTED: RECORDS.c.action == Action.PRIVACY_EXPORTED,
    Access.REVEALED: RECORDS.c.action == Action.VALUE_REVEALED,
}
_IS_ACCESS: Final = RECORDS.c.action.in_(
    (Action.EVENT, Action.CRM_WRITE, Action.PRIVACY_EXPORTED, Action.VALUE_REVEALED)
)


async def affected_objects(engine: AsyncEngine, filters: Filters) -> list[AffectedObject]:
    """Return each object that a matching record names as read, written, exported or revealed, once.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    names = ("portal_id", "object_type", "object_id", "object_hash")
    group = [RECORDS.c[name] for name in names]
    counts = [func.sum(case((condition, 1), else_=0)).label(access.value) for access, condition in _CONDITIONS.items()]
    times = [func.min(RECORDS.c.at).label("first_at"), func.max(RECORDS.c.at).label("last_at")]
    used = case(*((condition, 1) for condition in _CONDITIONS.values()), else_=0) == 1
    is_object = RECORDS.c.object_hash.is_not(None)
    query = (
        select(*group, *counts, *times)
        .where(*filters.conditions(), is_object, _IS_ACCESS, used)
        .group_by(*group)
        .order_by(*group)
    )
    return [
        AffectedObject(
            portal_id=int(row["portal_id"] or 0),
            object_type=str(row["object_type"] or ""),
            object_id=None if row["object_id"] is None else str(row["object_id"]),
            object_hash=str(row["object_hash"]),
            access=tuple(access for access in Access if row[access.value]),
            records=sum(int(row[access.value] or 0) for access in Access),
            first_at=int(row["first_at"] or 0),
            last_at=int(row["last_at"] or 0),
        )
        for row in await fetch(engine, query)
    ]
