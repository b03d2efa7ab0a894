"""`pause` and `resume`: a portal's work by hand. Rule: paused work waits in the queue, and nothing is lost of it."""

import asyncio
import getpass
from dataclasses import asdict
from typing import Annotated

import typer

from spokes.console.output import JsonOption, ReasonOption, format_utc, print_json, print_message, print_table
from spokes.core.masking import Mask
from spokes.core.redis.connections import redis_client
from spokes.core.settings import Settings
from spokes.core.telemetry import sentry
from spokes.queue.portal_pauses import PortalPause, PortalPauses

PortalArgument = Annotated[int | None, typer.Argument(help="The portal's id; without it, what is paused is shown.")]


def pause(portal_id: PortalArgument = None, reason: ReasonOption = "", as_json: JsonOption = False) -> None:
    """Let a portal's work wait until it is resumed, and show what waits; the door goes on taking events.

    Example: spokes pause 50112233 --reason "import by hand until noon"
    """
    paused = sorted(asyncio.run(_pause(Settings.from_env(), portal_id, reason)).items())
    if as_json:
        print_json(*({"portal_id": portal, **asdict(pause)} for portal, pause in paused))
        return
    if not paused:
        print_message("No portal is paused.")
        return
    columns = ("Portal", "Why", "Since (UTC)", "Until (UTC)")
    print_table(
        columns,
        (
            (portal, p.reason, format_utc(p.since * 1000), format_utc(p.until and p.until * 1000))
            for portal, p in paused
        ),
    )
    print_message("Workers go on with the queue of a resumed portal within seconds.")


def resume(
    portal_id: Annotated[int, typer.Argument(help="The portal's id.")],
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Let a portal's work go on, whatever paused it.

    Exit code 1 when it was not paused.

    Example: spokes resume 50112233
    """
    resumed = asyncio.run(_resume(Settings.from_env(), portal_id, reason))
    if as_json:
        print_json({"portal_id": portal_id, "resumed": resumed})
    else:
        print(f"{portal_id} goes on." if resumed else f"{portal_id} was not paused.")
    raise typer.Exit(0 if resumed else 1)


async def _pause(settings: Settings, portal_id: int | None, reason: str) -> dict[int, PortalPause]:
    async with redis_client(settings) as redis:
        circuit = PortalPauses(redis)
        if portal_id is not None:
            _start_sentry(settings)
            await circuit.operator_pause(portal_id, actor=getpass.getuser(), reason=reason)
        return await circuit.list()


async def _resume(settings: Settings, portal_id: int, reason: str) -> bool:
    _start_sentry(settings)
    async with redis_client(settings) as redis:
        return await PortalPauses(redis).operator_resume(portal_id, actor=getpass.getuser(), reason=reason)


def _start_sentry(settings: Settings) -> None:
    """Let Sentry hear of the alert that begins or ends by this command, as it does of those of workers."""
    sentry.start_sentry(settings, "command", Mask(settings.secret_values))
