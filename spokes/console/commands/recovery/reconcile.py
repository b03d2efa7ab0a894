"""`gaps reconcile`: compare one day of HubSpot's records with the events that arrived."""

import asyncio
import getpass
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from spokes.backfill.reconciliation import (
    DAY_MS,
    SETTLED_AFTER_MS,
    Comparison,
    day_of,
    is_archived,
    newest_settled_day,
    plans_of,
)
from spokes.backfill.reconciliation_parts import allowed_events, reconciliation
from spokes.backfill.record_events import Interval
from spokes.console.audit_store import open_audit_store
from spokes.console.commands.recovery.chosen_portals import chosen_portals
from spokes.console.installs.portal_credentials import open_crm
from spokes.console.operator_redis import operator_redis
from spokes.console.output import JsonOption, format_utc, print_json, print_message, print_table
from spokes.console.record_filters import parse_time_option
from spokes.core import clock
from spokes.core.errors import RecoveryRefused
from spokes.core.settings import Settings
from spokes.routing import load_router

_COLUMNS = ("Portal", "Records of", "Read", "Events", "Own writes", "Missing", "First (UTC)", "Last (UTC)", "Calls")


def reconcile(
    day: Annotated[
        int | None,
        typer.Option(help="A day in UTC.", parser=parse_time_option, metavar="DATE", show_default="yesterday"),
    ] = None,
    portal_id: Annotated[int | None, typer.Option("--portal", help="Only this portal.", min=1)] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the records that changed on a day at HubSpot with the events that arrived; differences become gaps.

    Exit code 1 when an event is missing. `spokes backfill` then reads it and closes the gap.

    Example: spokes gaps reconcile --day 2026-11-29
    """
    now = clock.now_ms()
    interval = newest_settled_day(now) if day is None else day_of(day)
    if interval.until + SETTLED_AFTER_MS > now:
        settled = format_utc(interval.until + SETTLED_AFTER_MS)
        raise typer.BadParameter(f"That day can be compared from {settled} UTC on. Write an earlier day.")
    if now - interval.since > Settings.from_env().audit_days * DAY_MS:
        raise typer.BadParameter("The audit no longer has the records of that day. Write a later one.")
    comparisons = asyncio.run(_reconcile(Settings.from_env(), interval, portal_id))
    if as_json:
        print_json(*map(asdict, comparisons))
    else:
        print_table(_COLUMNS, map(_row, comparisons))
        for each in comparisons:
            _print_notes(each)
    raise typer.Exit(1 if any(each.missing for each in comparisons) else 0)


async def _reconcile(settings: Settings, day: Interval, portal_id: int | None) -> list[Comparison]:
    router = load_router(settings.handlers)
    plans = tuple(plans_of(router.registrations))
    if not plans:
        raise RecoveryRefused("No handler registers for an event that a record shows, so nothing can be compared.")
    async with (
        open_audit_store(settings) as engine,
        operator_redis(settings, is_tolerant=False, max_connections=settings.redis_worker_connections) as redis,
        open_crm(settings, redis, engine) as (crm, portals),
    ):
        if not await is_archived(redis, day):
            raise RecoveryRefused(
                "Audit records of that day are not archived yet, so what arrived is unknown. Start a worker, and wait "
                "until the alert audit_backlog has ended."
            )
        allowed = await allowed_events(settings, redis, router)
        parts = reconciliation(settings, redis, engine, crm, actor=getpass.getuser())
        return [
            await parts.compare(portal, plan, day, allowed.for_portal(portal))
            for portal in chosen_portals(portals, portal_id)
            for plan in plans
        ]


def _print_notes(comparison: Comparison) -> None:
    """Print what could not be compared."""
    where = f"Portal {comparison.portal_id}, {comparison.object_type}"
    if comparison.undated:
        print_message(f"{where}: HubSpot returned no history of {comparison.undated} records; they are not compared.")
    if comparison.unproven:
        print_message(f"{where}: HubSpot counts {comparison.unproven} records that its search did not show.")


def _row(each: Comparison) -> Sequence[object]:
    first, last = (format_utc(at) if at else "" for at in (each.first_missing, each.last_missing))
    calls = sum(each.calls.values())
    return (
        each.portal_id, each.object_type, each.records, each.events, each.own, each.missing, first, last, calls
    )  # fmt: skip
