"""Records of requests that came again: one names all of the request's events, so it has no event key of its own."""

from collections.abc import Set as AbstractSet
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.records import Outcome
from spokes.audit.sql.queries import Filters
from spokes.audit.sql.tables import RECORDS
from spokes.console.queries.history.records import RecordView, newest_records
from spokes.console.queries.history.unarchived import UnarchivedRecords
from spokes.console.queries.portal_scope import Portals, can_see, portal_filter

_MAX_READ: Final = 1_000  # records of redeliveries since the oldest event


async def find_redeliveries(
    engine: AsyncEngine, unarchived: UnarchivedRecords, portals: Portals, event_keys: AbstractSet[str], *, since: int
) -> list[RecordView]:
    """Return the records of redeliveries that name one of these events, written at `since` (epoch ms) or later.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    if not event_keys:
        return []
    conditions = Filters(outcome=Outcome.DUPLICATE, since=since).conditions()
    stored = await newest_records(
        engine, [*conditions, RECORDS.c.event_key.is_(None), *portal_filter(portals)], _MAX_READ
    )
    waiting = [record for record in unarchived.records_naming(*event_keys) if can_see(portals, record.portal_id)]
    return [record for record in (*waiting, *stored) if not event_keys.isdisjoint(_named_events(record))]


def _named_events(record: RecordView) -> set[str]:
    keys = record.detail.get("keys")
    return set(map(str, keys)) if isinstance(keys, list) and record.outcome == Outcome.DUPLICATE else set()
