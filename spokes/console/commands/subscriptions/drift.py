"""`subscriptions drift`: compare what the handlers register for with what arrives."""

import asyncio
from pathlib import Path
from typing import Annotated, Final

import typer

from spokes.console.audit_store import open_audit_store
from spokes.console.operator_redis import operator_redis
from spokes.console.output import JsonOption, format_utc, print_json, print_message, print_table
from spokes.core.settings import Settings
from spokes.routing import load_router
from spokes.subscriptions.drift.report import PROJECT_FOLDER, DriftReport, read_drift

_HEADS: Final = ("registration", "handlers", "known since (UTC)", "last event (UTC)")


def drift(
    project: Annotated[
        Path, typer.Option(help="The folder of the HubSpot project; without one, it is left out.")
    ] = PROJECT_FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Show when each registration last saw an event, and where what arrives differs from what handlers need.

    HubSpot is not called: the receiver counts what arrives. Exit code 1 if there is more than notices.

    Example: spokes subscriptions drift
    """
    settings = Settings.from_env()
    report = asyncio.run(_read(settings, project))
    if as_json:
        _print_json(report)
    else:
        _print_tables(report)
    raise typer.Exit(0 if report.is_healthy else 1)


async def _read(settings: Settings, project: Path) -> DriftReport:
    router = load_router(settings.handlers)
    async with open_audit_store(settings) as engine, operator_redis(settings) as redis:
        return await read_drift(settings, redis, engine, router, project=project)


def _print_json(report: DriftReport) -> None:
    print_json(
        *(
            {
                "registration": state.name,
                "handlers": list(state.handlers),
                "registered_at": state.registered_at,
                "last_event_at": state.last_event_at,
            }
            for state in report.registrations
        ),
        *(
            {
                "drift": each.kind.value,
                "severity": each.severity.value,
                "subject": subject,
                "detail": detail,
                "explanation": each.explanation,
            }
            for each in report.drifts
            for subject, detail in each.subjects.items()
        ),
    )


def _print_tables(report: DriftReport) -> None:
    rows = (
        (
            state.name, ", ".join(state.handlers),
            format_utc(state.registered_at) if state.registered_at else "no worker yet",
            format_utc(state.last_event_at) if state.last_event_at else "never",
        )
        for state in report.registrations
    )  # fmt: skip
    print_table(_HEADS, rows)
    if not report.drifts:
        print_message("What arrives is what the handlers register for.")
        return
    found = (
        (each.severity.value, each.kind.value, subject, detail)
        for each in report.drifts
        for subject, detail in each.subjects.items()
    )
    print_table(("severity", "drift", "subject", "detail"), found)
    for each in report.drifts:
        print_message(f"{each.kind.value}: {each.explanation}")
