"""Queries over the archived records, streamed page by page, so that memory does not grow with the result.

A page starts where the previous one ended, by time and `seq`. Nothing stays open between two pages, so a slow reader
blocks neither the archiver nor the database.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, bindparam, select, tuple_
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.records import Action, Outcome
from spokes.audit.rows import Row
from spokes.audit.sql.engine import read_connection
from spokes.audit.sql.tables import RECORDS, STREAM

_PAGE_SIZE: Final = 1000  # rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Conditions on a record; None means any value. `since` and `until` are epoch ms of `at`; `until` is excluded.

    `token` is the fingerprint of the access token with which HubSpot was called. Records of earlier versions name none.
    """

    action: Action | None = None
    outcome: Outcome | None = None
    reason: str | None = None
    portal_id: int | None = None
    object_type: str | None = None
    object_id: str | None = None
    event_key: str | None = None
    event_id: int | None = None
    delivery_id: str | None = None
    handler: str | None = None
    actor: str | None = None
    correlation_id: str | None = None
    token: str | None = None
    since: int | None = None
    until: int | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return the conditions for SQL."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        since, until, token = values.pop("since"), values.pop("until"), values.pop("token")
        outcome = values.pop("outcome")
        conditions: list[ColumnElement[bool]] = [
            RECORDS.c[name] == value for name, value in values.items() if value is not None
        ]
        if outcome is not None:  # not as a parameter: the indexes of dead letters have the outcome as their condition
            conditions.append(RECORDS.c.outcome == bindparam(None, outcome, literal_execute=True))
        if since is not None:
            conditions.append(RECORDS.c.at >= since)
        if until is not None:
            conditions.append(RECORDS.c.at < until)
        if token is not None:
            # `detail` is JSON without spaces. No other text contains this, because JSON escapes quotation marks.
            conditions.append(RECORDS.c.detail.contains(f'"token_fingerprint":"{token}"', autoescape=True))
        return conditions


async def fetch(engine: AsyncEngine, query: Select[Any]) -> list[Row]:
    """Return all rows of a query.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    async with read_connection(engine) as connection:
        result = await connection.execute(query)
        names = [str(name) for name in result.keys()]  # noqa: SIM118 - a result iterates over rows, not over its keys
        return [dict(zip(names, row, strict=True)) for row in result]


async def unsigned_until(engine: AsyncEngine) -> int:
    """Return the epoch ms until which stream entries and checkpoints of versions that do not sign them are accepted.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    rows = await fetch(engine, select(STREAM.c.unsigned_until))
    return int(rows[0]["unsigned_until"] or 0) if rows else 0


async def find_records(
    engine: AsyncEngine,
    filters: Filters,
    *,
    newest_first: bool = False,
    limit: int | None = None,
    extra_conditions: Sequence[ColumnElement[bool]] = (),
) -> AsyncIterator[Row]:
    """Yield the matching rows, ordered by `at` and `seq`; `extra_conditions` apply as well as the filters.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    position = (RECORDS.c.at, RECORDS.c.seq)
    order = [column.desc() for column in position] if newest_first else [column.asc() for column in position]
    query = select(RECORDS).where(*filters.conditions(), *extra_conditions).order_by(*order)
    page = query
    remaining = limit
    while remaining is None or remaining > 0:
        page_size = _PAGE_SIZE if remaining is None else min(_PAGE_SIZE, remaining)
        rows = await fetch(engine, page.limit(page_size))
        for row in rows:
            yield row
        if len(rows) < page_size:
            return
        remaining = None if remaining is None else remaining - page_size
        end = tuple_(rows[-1]["at"], rows[-1]["seq"])
        page = query.where(tuple_(*position) < end if newest_first else tuple_(*position) > end)
