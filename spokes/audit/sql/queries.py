"""Questions to the store. Rule: an answer streams page by page, so that its length costs no memory.

A page starts where the one before it ended, by time and `seq`; nothing stays open between two pages, so a reader who
pauses holds up neither the archiver nor the database.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, select, tuple_
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.records import Action, Outcome
from spokes.audit.rows import Row
from spokes.audit.sql.engine import read_connection
from spokes.audit.sql.tables import RECORDS

_PAGE_SIZE: Final = 1000  # rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a record must be; None asks nothing. `since` and `until` are epoch ms of `at`; `until` itself is out."""

    action: Action | None = None
    outcome: Outcome | None = None
    portal_id: int | None = None
    object_type: str | None = None
    object_id: str | None = None
    event_key: str | None = None
    event_id: int | None = None
    delivery_id: str | None = None
    handler: str | None = None
    actor: str | None = None
    correlation_id: str | None = None
    since: int | None = None
    until: int | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return what SQL must ask."""
        asked = {field.name: getattr(self, field.name) for field in fields(self)}
        since, until = asked.pop("since"), asked.pop("until")
        conditions: list[ColumnElement[bool]] = [
            RECORDS.c[name] == value for name, value in asked.items() if value is not None
        ]
        if since is not None:
            conditions.append(RECORDS.c.at >= since)
        if until is not None:
            conditions.append(RECORDS.c.at < until)
        return conditions


async def fetch(engine: AsyncEngine, query: Select[Any]) -> list[Row]:
    """Return what `query` answers, all of it.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    async with read_connection(engine) as connection:
        result = await connection.execute(query)
        names = [str(name) for name in result.keys()]  # noqa: SIM118 - a result iterates over rows, not over its keys
        return [dict(zip(names, row, strict=True)) for row in result]


async def find_records(
    engine: AsyncEngine,
    filters: Filters,
    *,
    newest_first: bool = False,
    limit: int | None = None,
    extra_conditions: Sequence[ColumnElement[bool]] = (),
) -> AsyncIterator[Row]:
    """Yield the rows that match, by `at` and then `seq`; `within` is what SQL must ask besides.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    place = (RECORDS.c.at, RECORDS.c.seq)
    order = [column.desc() for column in place] if newest_first else [column.asc() for column in place]
    query = select(RECORDS).where(*filters.conditions(), *extra_conditions).order_by(*order)
    page = query
    left = limit
    while left is None or left > 0:
        wanted = _PAGE_SIZE if left is None else min(_PAGE_SIZE, left)
        rows = await fetch(engine, page.limit(wanted))
        for row in rows:
            yield row
        if len(rows) < wanted:
            return
        left = None if left is None else left - wanted
        end = tuple_(rows[-1]["at"], rows[-1]["seq"])
        page = query.where(tuple_(*place) < end if newest_first else tuple_(*place) > end)
