"""`events`: the newest events, or those that filters select, each with its latest outcome."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Annotated, Final

import orjson
import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.records import Action, Outcome, settled_key
from spokes.audit.rows import Row
from spokes.audit.sql.queries import Filters, find_records
from spokes.console.audit_store import open_audit_store
from spokes.console.output import JsonOption, format_utc, print_json, print_message, print_table, progress
from spokes.console.record_filters import with_filter_options
from spokes.core.settings import Settings

_JSON_FIELDS: Final = (
    "at", "event_key", "event_id", "subscription_type", "object_type", "object_id", "portal_id", "occurred_at",
    "outcome", "reason", "attempt", "handler", "delivery_id",
)  # fmt: skip
_MINUTES_FROM_S: Final = 120  # longer lags are shown in minutes


@with_filter_options
def events(
    filters: Filters,
    limit: Annotated[int, typer.Option(help="Maximum number of events.", min=1, max=10_000)] = 30,
    as_json: JsonOption = False,
) -> None:
    """Show events, newest first, each with its latest outcome.

    For every record of one event: `spokes audit query --event-key KEY`. For everything that happened to an object,
    including our calls and writes: `spokes timeline`.

    Exit code 1 when no event matches.

    Example: spokes events --object-id 318845120771
    Example: spokes events --outcome dead --since 1d --json
    """
    with progress("Reading the audit store"):
        rows = asyncio.run(_latest_records(filters, limit))
    if not rows:
        print_message("No event matches these filters. A new event appears a moment after it was received.")
        raise typer.Exit(1)
    if as_json:
        print_json(*({name: row[name] for name in _JSON_FIELDS} for row in rows))
        return
    columns = ("Time (UTC)", "Event", "Object", "Outcome", "Reason", "Attempts", "Lag", "Handler", "Event key")
    print_table(columns, map(_table_row, rows))
    counts = Counter(str(row["outcome"]) for row in rows)
    print_message(", ".join(f"{count} {outcome}" for outcome, count in counts.most_common()) + ".")
    if len(rows) == limit:
        print_message(f"Only the newest {limit} events are shown; --limit shows more.")


async def _latest_records(filters: Filters, limit: int) -> list[Row]:
    """Return the latest record of each event and, if it has several, of each handler.

    A filter by outcome applies to the latest record.
    """
    latest: dict[str, Row] = {}
    excluded: set[str] = set()
    filters = replace(filters, action=filters.action or Action.EVENT)
    async with open_audit_store(Settings.from_env()) as engine:
        async for row in find_records(engine, filters, newest_first=True):
            key = _state_key(row)
            if key in latest or key in excluded:
                continue
            if filters.outcome is None or await _is_latest_record(engine, row):
                latest[key] = row
            else:
                excluded.add(key)
            if len(latest) == limit:
                break
    return list(latest.values())


def _state_key(row: Row) -> str:
    """Return the key of what the row's outcome is the state of."""
    detail = orjson.loads(row["detail"]) if isinstance(row["detail"], str) else {}
    return settled_key(str(row["event_key"] or row["id"]), str(row["handler"] or ""), detail)


async def _is_latest_record(engine: AsyncEngine, row: Row) -> bool:
    """Return whether the event has no newer record."""
    if not row["event_key"]:
        return True
    handler = str(row["handler"]) if _state_key(row) != row["event_key"] else None
    filters = Filters(action=Action.EVENT, event_key=str(row["event_key"]), handler=handler)
    latest = find_records(engine, filters, newest_first=True, limit=1)
    return [record["id"] async for record in latest] == [row["id"]]


def _table_row(row: Row) -> tuple[object, ...]:
    object_ = f"{row['object_type'] or ''} {row['object_id'] or ''}".strip()
    attempts = row["attempt"] if row["outcome"] != Outcome.IGNORED else ""
    return (
        format_utc(float(row["at"] or 0)), row["subscription_type"], object_, row["outcome"], row["reason"], attempts,
        _format_lag(row), row["handler"], row["event_key"],
    )  # fmt: skip


def _format_lag(row: Row) -> str:
    """Return the time from the change in HubSpot to this record."""
    if not row["occurred_at"]:
        return ""
    seconds = (float(row["at"] or 0) - float(row["occurred_at"])) / 1000
    return f"{seconds:.1f} s" if abs(seconds) < _MINUTES_FROM_S else f"{seconds / 60:,.0f} min"
