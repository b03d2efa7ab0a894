"""Audit records from the store, page by page, newest first."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Final, Generic, TypeVar

import orjson
from sqlalchemy import ColumnElement, select, tuple_
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.rows import Row
from spokes.audit.sql.queries import Filters, fetch
from spokes.audit.sql.tables import RECORDS
from spokes.console.queries.portal_scope import Portals, portal_filter

_CURSOR: Final = re.compile(r"(?P<at>\d{1,18})\.(?P<seq>\d{1,18})", re.ASCII)
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordView:
    """One audit record; absent texts are empty. `seq` is None until it is archived; times are epoch ms."""

    id: str
    at: int
    action: str
    portal_id: int
    outcome: str = ""
    reason: str = ""
    attempt: int = 0
    delivery_id: str = ""
    event_key: str = ""
    event_id: int | None = None
    app_id: int | None = None
    subscription_type: str = ""
    object_type: str = ""
    object_id: str = ""
    occurred_at: int | None = None
    handler: str = ""
    actor: str = ""
    correlation_id: str = ""
    detail: Mapping[str, object] = field(default_factory=dict)
    object_hash: str = ""
    seq: int | None = None

    @classmethod
    def from_row(cls, row: Row) -> "RecordView":
        """Read a row of the store, or one made of an unarchived record."""
        values: dict[str, object] = {name: row[name] for name in _COLUMNS if row.get(name) is not None}
        detail = row.get("detail")
        values["detail"] = orjson.loads(detail) if isinstance(detail, str) else {}
        return cls(**values)  # type: ignore[arg-type]  # a row's values have the types of its columns


_COLUMNS: Final = tuple(column.name for column in fields(RecordView) if column.name != "detail")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of results; `next` is the cursor of the following page, None on the last."""

    items: tuple[T, ...]
    next: str | None = None


async def search_records(
    engine: AsyncEngine, portals: Portals, filters: Filters, *, limit: int = 50, after: str | None = None
) -> Page[RecordView]:
    """Return a page of matching archived records, newest first; `after` is the `next` of the page before.

    Raises:
        ValueError: `after` is not a cursor.
        AuditUnavailable: the store does not answer.
    """
    return await fetch_page(engine, [*filters.conditions(), *portal_filter(portals)], limit=limit, after=after)


async def fetch_page(
    engine: AsyncEngine, conditions: Sequence[ColumnElement[bool]], *, limit: int, after: str | None
) -> Page[RecordView]:
    """Return a page of the records that satisfy all `conditions`; see `search_records`.

    Raises:
        ValueError: `after` is not a cursor.
        AuditUnavailable: the store does not answer.
    """
    if after is not None:
        cursor = _CURSOR.fullmatch(after)
        if cursor is None:
            raise ValueError(after)
        conditions = [*conditions, tuple_(RECORDS.c.at, RECORDS.c.seq) < tuple_(int(cursor["at"]), int(cursor["seq"]))]
    records = await newest_records(engine, conditions, limit + 1)
    shown = records[:limit]
    return Page(tuple(shown), f"{shown[-1].at}.{shown[-1].seq}" if len(records) > limit else None)


async def newest_records(
    engine: AsyncEngine, conditions: Sequence[ColumnElement[bool]], limit: int
) -> list[RecordView]:
    """Return the newest records that satisfy all `conditions`.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    query = select(RECORDS).where(*conditions).order_by(RECORDS.c.at.desc(), RECORDS.c.seq.desc()).limit(limit)
    return [RecordView.from_row(row) for row in await fetch(engine, query)]
