"""`pause` and `resume`: hold back and continue a portal's work. Paused events stay in the queue; none is lost."""

import asyncio
import getpass
from dataclasses import asdict
from typing import Annotated, NoReturn

import typer

from spokes.console.operator_redis import operator_redis
from spokes.console.output import JsonOption, ReasonOption, format_utc, print_json, print_message, print_table
from spokes.core.masking import Mask
from spokes.core.settings import Settings
from spokes.core.spelling import closest, did_you_mean
from spokes.core.telemetry import sentry
from spokes.queue.pauses.call_pauses import HANDLER_PREFIX, CallPause
from spokes.queue.pauses.handler_pauses import HandlerPauses
from spokes.queue.pauses.portal_pauses import PortalPause, PortalPauses, resumption_note
from spokes.routing import load_router

PortalArgument = Annotated[int | None, typer.Argument(help="The portal's id; without it, only show pauses.", min=1)]
HandlerOption = Annotated[str, typer.Option("--handler", help="Only this handler, such as contacts.greet.")]


def pause(
    portal_id: PortalArgument = None,
    handler: HandlerOption = "",
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Pause a portal or one handler until it is resumed, and show all pauses: of portals, handlers, and failing calls.

    Events are still received; those that are paused wait in the queue. With `--handler`, other handlers of the same
    events go on; without a portal, the handler is paused in all portals.

    Example: spokes pause 50112233 --reason "import by hand until noon"
    Example: spokes pause --handler contacts.greet --reason "wrong greeting"
    """
    portals, calls = asyncio.run(_pause(Settings.from_env(), portal_id, handler, reason))
    pauses = [(portal, "", pause) for portal, pause in portals.items()]
    pauses += [
        (*pause.calls, PortalPause(pause.reason, pause.since, None if pause.handler else pause.until))
        for pause in calls
    ]
    pauses.sort(key=lambda row: row[:2])
    if as_json:
        print_json(*({"portal_id": portal, **_subject(kind), **asdict(pause)} for portal, kind, pause in pauses))
        return
    if not pauses:
        print_message("No portal is paused.")
        return
    columns = ("Portal", "Calls or handler", "Reason", "Since (UTC)", "Until (UTC)")
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
    print_message("Their events wait in the queue. `spokes resume PORTAL` or `--handler` continues within seconds.")


def resume(
    portal_id: Annotated[
        int | None, typer.Argument(help="The portal's id; with --handler, all by default.", min=1)
    ] = None,
    handler: HandlerOption = "",
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Resume a portal and its paused calls, whether an operator or a failure paused them; or one paused handler.

    Exit code 1 when it was not paused.

    Example: spokes resume 50112233
    Example: spokes resume --handler contacts.greet
    """
    if handler:
        _print_resumed_handler(handler, asyncio.run(_resume_handler(portal_id, handler, reason)), as_json=as_json)
    if portal_id is None:
        raise typer.BadParameter("Name a portal, or a handler with --handler.")
    pause, resumed = asyncio.run(_resume(Settings.from_env(), portal_id, reason))
    note = resumption_note(pause) if resumed else ""
    if as_json:
        print_json({"portal_id": portal_id, "resumed": resumed, "note": note})
    else:
        print(f"Portal {portal_id} is resumed. {note}".rstrip() if resumed else f"Portal {portal_id} was not paused.")
    raise typer.Exit(0 if resumed else 1)


async def _pause(
    settings: Settings, portal_id: int | None, handler: str, reason: str
) -> tuple[dict[int, PortalPause], list[CallPause]]:
    async with operator_redis(settings) as redis:
        pauses = PortalPauses(redis)
        if handler:
            names = load_router(settings.handlers).names
            if handler not in names:
                hint = did_you_mean(closest(handler, names)) or f" Handlers: {', '.join(names)}."
                raise typer.BadParameter(f"There is no handler {handler!r}.{hint}")
            if not await HandlerPauses(redis).pause(handler, portal_id, actor=getpass.getuser(), reason=reason):
                raise typer.BadParameter("No portal is known here yet. Name the portal, or start a worker first.")
        elif portal_id is not None:
            _start_sentry(settings)
            await pauses.operator_pause(portal_id, actor=getpass.getuser(), reason=reason)
        return await pauses.list(), await pauses.calls.list()


async def _resume_handler(portal_id: int | None, handler: str, reason: str) -> list[int]:
    async with operator_redis(Settings.from_env()) as redis:
        portal_ids = None if portal_id is None else [portal_id]
        return await HandlerPauses(redis).resume(handler, portal_ids, actor=getpass.getuser(), reason=reason)


def _print_resumed_handler(handler: str, portal_ids: list[int], *, as_json: bool) -> NoReturn:
    if as_json:
        print_json({"handler": handler, "portal_ids": portal_ids, "resumed": bool(portal_ids)})
    else:
        print(f"Handler {handler} is resumed." if portal_ids else f"Handler {handler} was not paused.")
    raise typer.Exit(0 if portal_ids else 1)


def _subject(kind: str) -> dict[str, str]:
    """Return what is paused: calls of a kind, a handler, or if both are empty everything."""
    is_handler = kind.startswith(HANDLER_PREFIX)
    return {"calls": "" if is_handler else kind, "handler": kind.removeprefix(HANDLER_PREFIX) if is_handler else ""}


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
