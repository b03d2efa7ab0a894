"""`portals set`: the settings of one portal."""

import asyncio
import getpass
from dataclasses import asdict
from typing import Annotated

import typer

from spokes.console.audit_store import open_audit_store
from spokes.console.installs.disconnecting import Operator
from spokes.console.installs.oauth_parts import portal_store
from spokes.console.installs.portal_changes import PortalChange, change_portal, is_known
from spokes.console.installs.portal_settings import PortalSettingsView, settings_view
from spokes.console.operator_redis import operator_redis
from spokes.console.output import JsonOption, ReasonOption, print_json
from spokes.core.errors import HttpProblem
from spokes.core.settings import Settings
from spokes.core.vault import Vault
from spokes.portal import portal_settings_classes
from spokes.portals.profile import PortalProfile
from spokes.portals.profile_store import ProfileStore
from spokes.routing import load_router


def set_portal(
    portal_id: Annotated[int, typer.Argument(help="The portal's id.", min=1)],
    name: Annotated[str | None, typer.Option(help="The name that operators and handlers see.")] = None,
    handlers: Annotated[
        str | None,
        typer.Option(help="Handlers that run for it, separated by commas; with a leading - those that do not run."),
    ] = None,
    events: Annotated[
        str | None, typer.Option(help="Event types that are queued for it, as in ALLOWED_EVENTS; others are ignored.")
    ] = None,
    region: Annotated[str | None, typer.Option(help="Country of its phone numbers without a +, such as DE.")] = None,
    time_zone: Annotated[str | None, typer.Option(help="Its time zone, such as Europe/Oslo.")] = None,
    currency: Annotated[str | None, typer.Option(help="Its currency, such as EUR.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option(help="A setting of the handlers' own, as name=value; may be repeated.")
    ] = None,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Set what is different for one portal. An empty text ends a setting: the deployment's counts again.

    Web processes and workers follow within seconds. No personal data in names.

    Example: spokes portals set 50112233 --name "Nordlys AS" --handlers contacts.greet --region NO
    """
    change = PortalChange(name, handlers, events, region, time_zone, currency, tuple(map(_pair, setting or ())))
    if not change.names:
        raise typer.BadParameter("nothing is set: name an option, such as --name. `spokes portals set --help` has all")
    try:
        view = asyncio.run(_change(Settings.from_env(), portal_id, change, reason))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if as_json:
        print_json(asdict(view))
    elif change.names == ["name"]:
        print(f"Portal {portal_id} is called {view.name}." if view.name else f"Portal {portal_id} has no name now.")
    else:
        print(f"Portal {portal_id} is changed: {', '.join(change.names)}. Processes follow within seconds.")


async def read_profile(settings: Settings, portal_id: int) -> tuple[PortalProfile, PortalSettingsView]:
    """Return a portal's settings, and as they are shown."""
    async with open_audit_store(settings) as engine:
        store = ProfileStore(engine, Vault.from_settings(settings))
        profile = await store.read(portal_id)
        return profile, settings_view(profile, store)


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name.strip():
        raise typer.BadParameter("must be name=value, such as greeting=Hei", param_hint="--setting")
    return name.strip(), value


async def _change(settings: Settings, portal_id: int, change: PortalChange, reason: str) -> PortalSettingsView:
    router = load_router(settings.handlers)
    async with open_audit_store(settings) as engine, operator_redis(settings) as redis:
        if not await is_known(portal_id, portal_store(settings, engine), redis):
            raise HttpProblem(404, "not_found", f"Portal {portal_id} is unknown here. Nothing was changed.")
        store = ProfileStore(engine, Vault.from_settings(settings))
        profile = await change_portal(
            portal_id,
            change,
            Operator(getpass.getuser(), reason),
            handlers=frozenset(router.names),
            classes=portal_settings_classes(settings.handlers),
            store=store,
            redis=redis,
        )
        return settings_view(profile, store)
