"""What belongs to an object's records without being of the object. Rule: asked by name, so that others' cost nothing.

These are the deliveries that brought its events, and what its events wrote to other objects.
"""

from collections.abc import Collection, Sequence
from typing import Final

from sqlalchemy import Text, column, select, values
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.records import Action
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import RECORDS
from spokes.console.queries.portal_scope import Portals, within
from spokes.console.queries.records import Recorded, newest

_WRITES: Final = 1_000  # of the events of one page, the newest


async def heads(engine: AsyncEngine, portals: Portals, deliveries: Collection[str]) -> list[Recorded]:
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
        .where(RECORDS.c.delivery_id == named.c.id, RECORDS.c.action == Action.DELIVERY_RECEIVED, *within(portals))
        .order_by(RECORDS.c.at, RECORDS.c.seq)
        .limit(1)
        .correlate(named)
        .scalar_subquery()
    )
    places = {
        int(row["seq"]) for row in await fetch(engine, select(first.label("seq")).select_from(named)) if row["seq"]
    }
    return await newest(engine, [RECORDS.c.seq.in_(sorted(places))], len(places)) if places else []


async def writes(engine: AsyncEngine, portals: Portals, event_keys: Collection[str]) -> tuple[Sequence[Recorded], bool]:
    """Return what these events wrote to HubSpot, the newest first; and whether that is all.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    if not event_keys:
        return [], True
    asked = [RECORDS.c.event_key.in_(sorted(event_keys)), RECORDS.c.action == Action.CRM_WRITE, *within(portals)]
    found = await newest(engine, asked, _WRITES + 1)
    return found[:_WRITES], len(found) <= _WRITES
