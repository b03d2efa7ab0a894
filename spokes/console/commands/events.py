"""`events`: what became of events, of the newest or of an object's. Rule: one line an event, and how it stands."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Annotated

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.records import Action, Outcome
from spokes.audit.rows import Row
from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine
from spokes.audit.sql.queries import Filters, find_records
from spokes.console.output import JsonOption, format_utc, print_json, print_message, print_table, progress
from spokes.console.record_filters import with_filter_options
from spokes.core.settings import Settings

_JSON_FIELDS = (
    "at", "event_key", "event_id", "subscription_type", "object_type", "object_id", "portal_id", "occurred_at",
    "outcome", "reason", "attempt", "handler", "delivery_id",
)  # fmt: skip

_MINUTES_FROM_S = 120


@with_filter_options
def events(
    filters: Filters,
    limit: Annotated[int, typer.Option(help="How many events at most.", min=1, max=10_000)] = 30,
    as_json: JsonOption = False,
) -> None:
    """Show events, the newest first, each with how it ended or where it stands.

    Every record of an event's way: `spokes audit query --event-key KEY`. All that happened to an object, calls and
    writes included: `spokes timeline`.

    Exit code 1 when no event matches.

    Example: spokes events --object-id 318845120771
    Example: spokes events --outcome dead --since 1d --json
    """
    with progress("Looking in the store"):
        found = asyncio.run(_latest_records(filters, limit))
    if not found:
        print_message("No event matches. What has just come in is seen a moment later.")
        raise typer.Exit(1)
    if as_json:
        print_json(*({name: row[name] for name in _JSON_FIELDS} for row in found))
        return
    columns = ("Time (UTC)", "Event", "Object", "Outcome", "Reason", "Tries", "Lag", "Handler", "Event key")
    print_table(columns, map(_table_row, found))
    counts = Counter(str(row["outcome"]) for row in found)
    print_message(", ".join(f"{count} {outcome}" for outcome, count in counts.most_common()) + ".")
    if len(found) == limit:
        print_message(f"The newest {limit} are shown; --limit shows more.")


async def _latest_records(filters: Filters, limit: int) -> list[Row]:
    """Return the last record of each event; an outcome that is asked for is that of the last one."""
    engine = open_engine(Settings.from_env().database_address)
    last: dict[str, Row] = {}
    left_out: set[str] = set()
    try:
        await schema.require_current(engine)
        async for row in find_records(
            engine, replace(filters, action=filters.action or Action.EVENT), newest_first=True
        ):
            key = str(row["event_key"] or row["id"])
            if key in last or key in left_out:
                continue
            if filters.outcome is None or await _is_latest_record(engine, row):
                last[key] = row
            else:
                left_out.add(key)
            if len(last) == limit:
                break
    finally:
        await engine.dispose()
    return list(last.values())


async def _is_latest_record(engine: AsyncEngine, row: Row) -> bool:
    """Whether nothing has become of the event since."""
    if not row["event_key"]:
        return True
    newer = find_records(
        engine, Filters(action=Action.EVENT, event_key=str(row["event_key"])), newest_first=True, limit=1
    )
    return [one["id"] async for one in newer] == [row["id"]]


def _table_row(row: Row) -> tuple[object, ...]:
    thing = f"{row['object_type'] or ''} {row['object_id'] or ''}".strip()
    tries = row["attempt"] if row["outcome"] != Outcome.IGNORED else ""
    return (
        format_utc(float(row["at"] or 0)), row["subscription_type"], thing, row["outcome"], row["reason"], tries,
        _format_lag(row), row["handler"], row["event_key"],
    )  # fmt: skip


def _format_lag(row: Row) -> str:
    """How long after it happened in HubSpot this was."""
    if not row["occurred_at"]:
        return ""
    seconds = (float(row["at"] or 0) - float(row["occurred_at"])) / 1000
    return f"{seconds:.1f} s" if abs(seconds) < _MINUTES_FROM_S else f"{seconds / 60:,.0f} min"
