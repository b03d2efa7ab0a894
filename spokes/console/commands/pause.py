"""`pause` and `resume`: hold back and continue a portal's work. Paused events stay in the queue; none is lost."""

import asyncio
import getpass
from dataclasses import asdict
from typing import Annotated

import typer

from spokes.console.operator_redis import operator_redis
from spokes.console.output import JsonOption, ReasonOption, format_utc, print_json, print_message, print_table
from spokes.core.masking import Mask
from spokes.core.settings import Settings
from spokes.core.telemetry import sentry
from spokes.queue.call_pauses import CallPause
from spokes.queue.portal_pauses import PortalPause, PortalPauses, resumption_note

PortalArgument = Annotated[int | None, typer.Argument(help="The portal's id; without it, only show paused portals.")]


def pause(portal_id: PortalArgument = None, reason: ReasonOption = "", as_json: JsonOption = False) -> None:
    """Pause a portal until it is resumed, and show all pauses: of portals, and of the calls that HubSpot fails.

    Events are still received while a portal is paused; they wait in the queue.

    Example: spokes pause 50112233 --reason "import by hand until noon"
    """
    portals, calls = asyncio.run(_pause(Settings.from_env(), portal_id, reason))
    pauses = [(portal, "", pause) for portal, pause in portals.items()]
    pauses += [(*pause.calls, PortalPause(pause.reason, pause.since, pause.until)) for pause in calls]
    pauses.sort(key=lambda row: row[:2])
    if as_json:
        print_json(*({"portal_id": portal, "calls": kind, **asdict(pause)} for portal, kind, pause in pauses))
        return
    if not pauses:
        print_message("No portal is paused.")
        return
    columns = ("Portal", "Calls", "Reason", "Since (UTC)", "Until (UTC)")
    print_table(
        columns,
        (
            (
                portal,
                kind or "all",
                pause.reason,
                format_utc(pause.since * 1000),
                format_utc(pause.until and pause.until * 1000),
            )
            for portal, kind, pause in pauses
        ),
    )
    print_message("Events of these portals wait in the queue. `spokes resume PORTAL` continues within seconds.")


def resume(
    portal_id: Annotated[int, typer.Argument(help="The portal's id.")],
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Resume a portal and its paused calls, whether an operator or a failure paused them.

    Exit code 1 when it was not paused.

    Example: spokes resume 50112233
    """
    pause, resumed = asyncio.run(_resume(Settings.from_env(), portal_id, reason))
    note = resumption_note(pause) if resumed else ""
    if as_json:
        print_json({"portal_id": portal_id, "resumed": resumed, "note": note})
    else:
        print(f"Portal {portal_id} is resumed. {note}".rstrip() if resumed else f"Portal {portal_id} was not paused.")
    raise typer.Exit(0 if resumed else 1)


async def _pause(
    settings: Settings, portal_id: int | None, reason: str
) -> tuple[dict[int, PortalPause], list[CallPause]]:
    async with operator_redis(settings) as redis:
        pauses = PortalPauses(redis)
        if portal_id is not None:
            _start_sentry(settings)
            await pauses.operator_pause(portal_id, actor=getpass.getuser(), reason=reason)
        return await pauses.list(), await pauses.calls.list()


async def _resume(settings: Settings, portal_id: int, reason: str) -> tuple[PortalPause | None, bool]:
    """Resume the portal; return its pause, if it is readable, and whether it was paused."""
    _start_sentry(settings)
    async with operator_redis(settings) as redis:
        pauses = PortalPauses(redis)
        pause = (await pauses.list()).get(portal_id)
        return pause, await pauses.operator_resume(portal_id, actor=getpass.getuser(), reason=reason)


def _start_sentry(settings: Settings) -> None:
    """Start Sentry, so that it receives the alert that this command starts or ends, as it receives those of workers."""
    sentry.start_sentry(settings, "command", Mask(settings.secret_values))
