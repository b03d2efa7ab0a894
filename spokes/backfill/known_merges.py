"""Which records are known to be merged away, by the audit."""

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.records import Action
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import RECORDS


async def known_merges(engine: AsyncEngine, portal_id: int, ids: Collection[str]) -> set[str]:
    """Return those of the ids that the audit knows as merged into another record.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    if not ids:
        return set()
    query = select(RECORDS.c.object_id).where(
        RECORDS.c.object_id.in_(sorted(ids)),
        RECORDS.c.action == Action.OBJECT_MERGED,
        RECORDS.c.portal_id == portal_id,
    )
    return {str(row["object_id"]) for row in await fetch(engine, query)}
