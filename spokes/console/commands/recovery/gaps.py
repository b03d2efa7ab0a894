"""`gaps list|show|close`: intervals in which events may have been missed."""

import asyncio
import getpass
from dataclasses import asdict
from typing import Annotated

import typer

from spokes.backfill.recovery_report import RecoveryReport, recovery_report
from spokes.backfill.store import BackfillStore
from spokes.console.audit_store import open_audit_store
from spokes.console.commands.recovery.reconcile import reconcile
from spokes.console.output import JsonOption, format_utc, print_json, print_message, print_table
from spokes.core.settings import Settings
from spokes.gaps.gap import ALL_PORTALS, ALL_SCOPES, Gap
from spokes.gaps.ledger import GapLedger

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Show the intervals in which events may have been missed, and close one by hand. See docs/recovery.md.",
)

app.command()(reconcile)
GapArgument = Annotated[str, typer.Argument(help="The gap's id.", metavar="GAP")]


@app.command(name="list")
def list_gaps(
    portal_id: Annotated[int | None, typer.Option("--portal", help="Only gaps of this portal.", min=1)] = None,
    include_closed: Annotated[bool, typer.Option("--all", help="Closed gaps too.")] = False,
    limit: Annotated[int, typer.Option(help="Maximum number of gaps.", min=1)] = 200,
    as_json: JsonOption = False,
) -> None:
    """Show the gaps, the oldest open one first. Exit code 1 while any is open.

    Example: spokes gaps list
    """
    gaps = asyncio.run(_list(Settings.from_env(), portal_id, limit, include_closed=include_closed))
    if as_json:
        print_json(*map(asdict, gaps[:limit]))
    elif not gaps:
        print_message("No gap is open." if not include_closed else "No gap was ever found.")
    else:
        columns = ("Gap", "Portal", "Events", "From (UTC)", "To (UTC)", "Why", "State")
        print_table(columns, map(_row, gaps[:limit]))
    if len(gaps) > limit:
        print_message(f"Only {limit} gaps are shown; --limit shows more.")
    raise typer.Exit(1 if any(gap.proof is None for gap in gaps) else 0)


@app.command()
def show(gap_id: GapArgument, as_json: JsonOption = False) -> None:
    """Show one gap; of a closed one also the outcomes of its events.

    Example: spokes gaps show 1f0c7a2b
    """
    gap, report = asyncio.run(_find(Settings.from_env(), gap_id))
    if as_json:
        print_json(asdict(gap) | {"report": None if report is None else asdict(report)})
    else:
        print_table(("Field", "Value"), _facts(gap) + _report_facts(report))


@app.command()
def close(
    gap_id: GapArgument,
    reason: Annotated[str, typer.Option(help="Why no event of the gap is missing; recorded in the audit.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Close an open gap without a proof. Prefer `spokes backfill`, which proves it.

    Example: spokes gaps close 1f0c7a2b --reason "test portal, nothing to process"
    """
    gap = asyncio.run(_close(Settings.from_env(), gap_id, reason))
    if as_json:
        print_json(asdict(gap))
    else:
        print(f"Gap {gap.id} is closed.")


async def _list(settings: Settings, portal_id: int | None, limit: int, *, include_closed: bool) -> list[Gap]:
    async with open_audit_store(settings) as engine:
        portals = None if portal_id is None else [portal_id]
        ledger = GapLedger.from_settings(settings, engine)
        return await ledger.list(include_closed=include_closed, portals=portals, limit=limit + 1)


async def _find(settings: Settings, gap_id: str) -> tuple[Gap, RecoveryReport | None]:
    async with open_audit_store(settings) as engine:
        gap = await GapLedger.from_settings(settings, engine).find(gap_id)
        store = BackfillStore.from_settings(settings, engine, getpass.getuser())
        return gap, await recovery_report(engine, store, gap)


async def _close(settings: Settings, gap_id: str, reason: str) -> Gap:
    async with open_audit_store(settings) as engine:
        return await GapLedger.from_settings(settings, engine).close(gap_id, actor=getpass.getuser(), reason=reason)


def _portal(gap: Gap) -> object:
    return "all" if gap.portal_id == ALL_PORTALS else gap.portal_id


def _scope(gap: Gap) -> str:
    return "all" if gap.scope == ALL_SCOPES else gap.scope


def _row(gap: Gap) -> tuple[object, ...]:
    state = "open" if gap.proof is None else f"closed: {gap.proof}"
    return (
        gap.id, _portal(gap), _scope(gap), format_utc(gap.since), format_utc(gap.until), "\n".join(gap.causes), state
    )  # fmt: skip


def _facts(gap: Gap) -> list[tuple[str, object]]:
    return [
        ("Gap", gap.id),
        ("Portal", _portal(gap)),
        ("Events", _scope(gap)),
        ("From (UTC)", format_utc(gap.since)),
        ("To (UTC)", format_utc(gap.until)),
        ("Why", "\n".join(gap.causes)),
        ("Found (UTC)", format_utc(gap.opened_at)),
        ("State", "open" if gap.proof is None else "closed"),
        ("Proof", gap.proof or ""),
        ("Closed (UTC)", format_utc(gap.closed_at)),
        ("Closed by", gap.closed_by),
        ("Reason", gap.reason),
        ("Backfill", gap.backfill),
    ]


def _report_facts(report: RecoveryReport | None) -> list[tuple[str, object]]:
    if report is None:
        return []
    calls = ", ".join(f"{count:,} {kind}" for kind, count in sorted(report.calls.items()))
    return [
        ("Events missed", report.missed),
        ("Recovered", report.recovered),
        ("Already known", report.known),
        ("Handled", report.handled),
        ("Superseded", report.superseded),
        ("Dead letters", report.failed),
        ("In progress", report.in_progress),
        ("Lost", report.lost),
        ("Waiting, of the whole backfill", report.waiting),
        ("Calls of the whole backfill", calls),
    ]
