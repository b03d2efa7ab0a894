"""The settings of one portal for the actor of a request, read and changed; pages and API share it."""

from aiohttp import web

from spokes.console.accounts.actors import ACTOR, ADDRESS
from spokes.console.installs.disconnecting import Operator
from spokes.console.installs.portal_changes import PortalChange, change_portal, is_known
from spokes.console.installs.portal_settings import PortalSettingsView, settings_view
from spokes.console.web.app_keys import ENGINE, PORTAL_STORE, REDIS, SETTINGS
from spokes.core.errors import HttpProblem
from spokes.core.vault import Vault
from spokes.portal import portal_settings_classes
from spokes.portals.profile_store import ProfileStore
from spokes.routing import load_router


async def read_settings(request: web.Request) -> PortalSettingsView:
    """Return the settings of the portal in the request's path.

    Raises:
        HttpProblem: 404, the portal is unknown here, or the actor may not see it.
        SecretUnreadable: none of our keys opens the settings of handlers' own.
        AuditUnavailable, RedisError, OSError: store or Redis do not answer.
    """
    portal_id, store = await _visible_portal(request), _profiles(request)
    return settings_view(await store.read(portal_id), store)


async def change_settings(request: web.Request, change: PortalChange, reason: str) -> PortalSettingsView:
    """Change the settings of the portal in the request's path, as the request's actor; return them.

    Raises:
        HttpProblem: 404, as `read_settings`; 422, the change is empty or a value is invalid. Nothing was changed.
        SecretUnreadable, AuditUnavailable, RedisError, OSError: as `read_settings`.
    """
    portal_id, store, settings = await _visible_portal(request), _profiles(request), request.app[SETTINGS]
    if not change.names:
        raise HttpProblem(422, "nothing_changed", "No setting differs from what is stored. Nothing was changed.")
    try:
        profile = await change_portal(
            portal_id,
            change,
            Operator(request[ACTOR].name, reason, request[ADDRESS]),
            handlers=frozenset(load_router(settings.handlers).names),
            classes=portal_settings_classes(settings.handlers),
            store=store,
            redis=request.app[REDIS],
        )
    except ValueError as error:
        raise HttpProblem(422, "wrong_setting", f"{error}. Nothing was changed.".replace("..", ".")) from None
    return settings_view(profile, store)


async def _visible_portal(request: web.Request) -> int:
    portal_id = int(request.match_info["portal"])
    if request[ACTOR].can_see(portal_id) and await is_known(portal_id, request.app[PORTAL_STORE], request.app[REDIS]):
        return portal_id
    raise HttpProblem(404, "not_found", "This portal is unknown here. Nothing was changed.")


def _profiles(request: web.Request) -> ProfileStore:
    return ProfileStore(request.app[ENGINE], Vault.from_settings(request.app[SETTINGS]))
