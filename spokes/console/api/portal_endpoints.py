"""Endpoints of the portals that installed the app. Portals that the actor may not see are a 404."""

from aiohttp import web

from spokes.console.api.request_schemas import PortalQuery, ReasonBody
from spokes.console.api.response_schemas import Disconnection
from spokes.console.api.route import not_found
from spokes.console.installs.portal_views import PortalView, matching
from spokes.console.queries.records import Page
from spokes.console.web.portal_list import disconnect_named, visible_portals


async def get_portals(request: web.Request, query: PortalQuery) -> Page[PortalView]:
    """Return a page of the portals, by id."""
    after = int(query.after) if query.after is not None else 0
    views = matching(await visible_portals(request), state=query.state or "")
    following = [view for view in views if view.portal_id > after]
    shown = tuple(following[: query.limit])
    return Page(shown, str(shown[-1].portal_id) if len(following) > len(shown) else None)


async def get_portal(request: web.Request, _: None) -> PortalView:
    """Return one portal."""
    views = await visible_portals(request, only=int(request.match_info["portal"]))
    if not views:
        raise not_found("portal: it has not installed the app")
    return views[0]


async def disconnect_portal(request: web.Request, body: ReasonBody) -> Disconnection:
    """Uninstall the app from one portal."""
    return Disconnection(await disconnect_named(request, int(request.match_info["portal"]), body.reason))
