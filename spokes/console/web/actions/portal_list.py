"""The installed portals that the actor of a request may see, and disconnecting one; pages and API share it."""

from collections.abc import Iterable

from aiohttp import web

from spokes.console.accounts.actors import ACTOR, ADDRESS
from spokes.console.installs.disconnecting import Operator, disconnect
from spokes.console.installs.portal_views import PortalView, installed_portals, with_budgets
from spokes.console.web.app_keys import ENGINE, OAUTH, PORTAL_STORE, REDIS, SETTINGS
from spokes.core.errors import HttpProblem
from spokes.crm.scopes import required_scopes
from spokes.handler_declarations import handler_declarations
from spokes.routing import load_router


async def visible_portals(request: web.Request, *, only: int | None = None) -> list[PortalView]:
    """Return the portals by id; `only` one, if it exists and the actor may see it.

    Raises:
        AuditUnavailable: the store does not answer.
        RedisError, OSError: Redis does not answer.
    """
    app, settings = request.app, request.app[SETTINGS]
    required = required_scopes(handler_declarations(load_router(settings.handlers)))
    return await installed_portals(
        app[PORTAL_STORE], app[REDIS], app[ENGINE], request[ACTOR].portals, required,
        optional=settings.hubspot_optional_scopes, only=only,
    )  # fmt: skip


async def shown_portals(request: web.Request, views: Iterable[PortalView]) -> list[PortalView]:
    """Return the portals of a page, with the use of their calls.

    Raises:
        CRMUnavailable: Redis does not answer.
    """
    return await with_budgets(views, request.app[REDIS], request.app[SETTINGS])


async def disconnect_named(request: web.Request, portal_id: int, reason: str) -> bool:
    """Disconnect a portal as the request's actor; return whether HubSpot uninstalled the app now.

    Raises:
        HttpProblem: see `disconnect`; 404 too if the actor may not see the portal, or no app is configured.
        AuditUnavailable, RedisError, OSError: store or Redis do not answer.
    """
    app, actor = request.app, request[ACTOR]
    oauth = app[OAUTH]
    if oauth is None or not actor.can_see(portal_id):
        raise HttpProblem(404, "not_found", f"Portal {portal_id} has not installed the app. Nothing was done.")
    operator = Operator(actor.name, reason, request[ADDRESS])
    return await disconnect(
        portal_id, operator, settings=app[SETTINGS], store=app[PORTAL_STORE], oauth=oauth, redis=app[REDIS]
    )
