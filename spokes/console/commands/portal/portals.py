"""`portals list|show|set|pause|disconnect`: the portals that installed the app."""

import asyncio
import getpass
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Final

import typer

from spokes.console.audit_store import open_audit_store
from spokes.console.commands.portal.settings import read_profile, set_portal
from spokes.console.installs.disconnecting import Operator, disconnect, find_connected
from spokes.console.installs.oauth_parts import oauth_client, portal_store
from spokes.console.installs.portal_views import SORTS, PortalView, installed_portals, matching, with_budgets
from spokes.console.operator_redis import operator_redis
from spokes.console.output import (
    JsonOption,
    ReasonOption,
    YesOption,
    confirm,
    format_utc,
    print_json,
    print_message,
    print_table,
)
from spokes.core.settings import Settings
from spokes.crm.scopes import required_scopes
from spokes.handler_declarations import handler_declarations
from spokes.portals.profile import PortalProfile
from spokes.queue.pauses.portal_pauses import PortalPauses
from spokes.routing import load_router

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="The portals that installed the app: show, pause or disconnect them. See docs/portals.md.",
)

app.command(name="set")(set_portal)
_STATES: Final = ("installed", "needs_reinstall", "paused", "uninstalled", "missing_scopes")
PortalArgument = Annotated[int, typer.Argument(help="The portal's id.", min=1)]


def _one_of(names: tuple[str, ...], value: str) -> str:
    if value and value not in names:
        raise typer.BadParameter(f"must be one of {', '.join(names)}")
    return value


@app.command(name="list")
def list_portals(
    state: Annotated[
        str,
        typer.Option(help=f"Only in this state: {', '.join(_STATES)}.", callback=lambda text: _one_of(_STATES, text)),
    ] = "",
    sort: Annotated[
        str, typer.Option(help=f"By {', '.join(SORTS)}.", callback=lambda text: _one_of(tuple(SORTS), text))
    ] = "portal",
    text: Annotated[str, typer.Option("--search", help="Only with this text in the id or name.")] = "",
    limit: Annotated[int, typer.Option(help="Maximum number of portals.", min=1)] = 200,
    page: Annotated[int, typer.Option(help="Page of --limit portals to show.", min=1)] = 1,
    as_json: JsonOption = False,
) -> None:
    """Show the portals that installed the app, with their state, backlog and dead letters.

    Example: spokes portals list --state needs_reinstall
    """
    first = (page - 1) * limit
    count, views = asyncio.run(_page(Settings.from_env(), state, text, sort, slice(first, first + limit)))
    if as_json:
        print_json(*map(asdict, views))
    elif not count:
        print_message("No portal matches." if state or text else "No portal has installed the app.")
    else:
        columns = ("Portal", "Name", "State", "Scopes missing", "Scopes without need", "Last event (UTC)", "Backlog")
        print_table(
            (*columns, "Lag (s)", "Calls in 10 s", "Dead letters", "Access token until (UTC)"), map(_row, views)
        )
    if len(views) < count:
        shown = f"{first + 1} to {first + len(views)}" if views else "None"
        print_message(f"{shown} of {count} are shown; --page and --limit show others.")


@app.command()
def show(portal_id: PortalArgument, as_json: JsonOption = False) -> None:
    """Show one portal: its state if it installed the app, and its settings. Exit code 1 without either.

    Example: spokes portals show 50112233
    """
    settings = Settings.from_env()
    views = asyncio.run(_one(settings, portal_id))
    profile, shown = asyncio.run(read_profile(settings, portal_id))
    if not views and profile.is_empty:
        print_message(f"Portal {portal_id} has not installed the app. `spokes portals list` shows those that have.")
        raise typer.Exit(1)
    if as_json:
        view = asdict(views[0]) if views else {"portal_id": portal_id}
        print_json(view | {"settings": asdict(shown)})
    else:
        print_table(("Field", "Value"), [*(_facts(views[0]) if views else ()), *_settings(profile, shown.own)])


@app.command()
def pause(portal_id: PortalArgument, reason: ReasonOption = "", as_json: JsonOption = False) -> None:
    """Hold the events of an installed portal back until `spokes resume`; none are lost.

    Example: spokes portals pause 50112233 --reason "import by hand until noon"
    """
    asyncio.run(_pause(Settings.from_env(), portal_id, reason))
    if as_json:
        print_json({"portal_id": portal_id, "paused": True})
    else:
        print(f"Portal {portal_id} is paused. `spokes resume {portal_id}` continues within seconds.")


@app.command(name="disconnect")
def disconnect_portal(
    portal_id: PortalArgument, reason: ReasonOption = "", yes: YesOption = False, as_json: JsonOption = False
) -> None:
    """Uninstall the app from a portal at HubSpot, and destroy its tokens. Only the customer can install it again.

    Its events are discarded from then on; what is held on it is erased after UNINSTALLED_DAYS. Repeat the command if
    HubSpot does not answer.

    Example: spokes portals disconnect 50112233 --reason "contract ended"
    """
    settings = Settings.from_env(required=("HUBSPOT_CLIENT_ID",))
    asyncio.run(_check_connected(settings, portal_id))
    confirm(
        f"Uninstall the app from portal {portal_id}, destroy its tokens, and erase what is held on it after "
        f"{settings.uninstalled_days} days?",
        yes=yes,
    )
    was_installed = asyncio.run(_disconnect(settings, portal_id, reason))
    if as_json:
        print_json({"portal_id": portal_id, "was_installed": was_installed})
    else:
        note = "" if was_installed else " The app was not installed at HubSpot any more."
        print(f"Portal {portal_id} is disconnected.{note}")


async def _page(settings: Settings, state: str, text: str, sort: str, part: slice) -> tuple[int, list[PortalView]]:
    """Return how many portals match, and some of them."""
    async with operator_redis(settings) as redis:
        views = matching(await _views(settings), state=state, text=text, sort=sort)
        return len(views), await with_budgets(views[part], redis, settings)


async def _one(settings: Settings, portal_id: int) -> list[PortalView]:
    async with operator_redis(settings) as redis:
        return await with_budgets(await _views(settings, portal_id), redis, settings)


async def _views(settings: Settings, only: int | None = None) -> list[PortalView]:
    required = required_scopes(handler_declarations(load_router(settings.handlers)))
    async with open_audit_store(settings) as engine, operator_redis(settings) as redis:
        return await installed_portals(
            portal_store(settings, engine), redis, engine, None, required, optional=settings.hubspot_optional_scopes,
            only=only,
        )  # fmt: skip


async def _pause(settings: Settings, portal_id: int, reason: str) -> None:
    async with open_audit_store(settings) as engine, operator_redis(settings) as redis:
        await find_connected(portal_store(settings, engine), portal_id)
        await PortalPauses(redis).operator_pause(portal_id, actor=getpass.getuser(), reason=reason, is_known=True)


async def _check_connected(settings: Settings, portal_id: int) -> None:
    async with open_audit_store(settings) as engine:
        await find_connected(portal_store(settings, engine), portal_id)


async def _disconnect(settings: Settings, portal_id: int, reason: str) -> bool:
    oauth = oauth_client(settings)
    try:
        async with open_audit_store(settings) as engine, operator_redis(settings) as redis:
            operator = Operator(getpass.getuser(), reason)
            store = portal_store(settings, engine)
            return await disconnect(portal_id, operator, settings=settings, store=store, oauth=oauth, redis=redis)
    finally:
        await oauth.close()


def _row(view: PortalView) -> tuple[object, ...]:
    missing, excess = "\n".join(view.scopes_missing), "\n".join(view.scopes_excess)
    backlog, token = view.backlog + view.parked, format_utc(view.token_expires_at)
    facts = (view.portal_id, view.name, view.state, missing, excess, format_utc(view.last_event_at), backlog)
    return *facts, round(view.lag_s), f"{view.calls_used} of {view.calls_limit}", view.dead_letters, token


def _settings(profile: PortalProfile, own: Sequence[str]) -> list[tuple[str, object]]:
    return [
        ("Handlers", "\n".join(profile.handlers) or "all"),
        ("Event types", "\n".join(profile.events) or "those of the handlers"),
        ("Region", profile.region or "the deployment's"),
        ("Time zone", profile.zone.key),
        ("Currency", profile.currency or profile.account.currency),
        ("Settings of handlers' own", "\n".join(own)),
    ]


def _facts(view: PortalView) -> list[tuple[str, object]]:
    state = f"{view.state} ({view.reason})" if view.reason else view.state
    return [
        ("Portal", view.portal_id),
        ("Name", view.name),
        ("State", state),
        ("In this state since (UTC)", format_utc(view.changed_at)),
        ("Installed (UTC)", format_utc(view.installed_at)),
        ("Access token valid until (UTC)", format_utc(view.token_expires_at) or "no tokens"),
        ("Scopes missing", "\n".join(view.scopes_missing)),
        ("Scopes without need", "\n".join(view.scopes_excess)),
        ("Last event (UTC)", format_utc(view.last_event_at)),
        ("Waiting deliveries", view.backlog),
        ("Deliveries that wait for tokens", view.parked),
        ("First of them due for (s)", round(view.lag_s)),
        ("Calls in 10 s", f"{view.calls_used} of {view.calls_limit}"),
        ("Dead letters", view.dead_letters),
    ]
