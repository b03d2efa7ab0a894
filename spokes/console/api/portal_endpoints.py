"""Endpoints of portals: those that installed the app, and the settings of any one.

Portals that the actor may not see are a 404.
"""

from aiohttp import web

from spokes.console.api.request_schemas import PortalQuery, PortalSettingsBody, ReasonBody
from spokes.console.api.response_schemas import Disconnection
from spokes.console.api.route import not_found
from spokes.console.installs.portal_changes import PortalChange
from spokes.console.installs.portal_settings import PortalSettingsView
from spokes.console.installs.portal_views import PortalView, matching
from spokes.console.queries.history.records import Page
from spokes.console.web.actions.portal_list import disconnect_named, shown_portals, visible_portals
from spokes.console.web.actions.portal_settings import change_settings, read_settings


async def get_portals(request: web.Request, query: PortalQuery) -> Page[PortalView]:
    """Return a page of the portals. `next` is an id if they are sorted by it, else a position in the list."""
    views = matching(await visible_portals(request), state=query.state or "", text=query.q, sort=query.sort)
    after = int(query.after) if query.after is not None else 0
    is_by_id = query.sort == "portal"
    following = [view for view in views if view.portal_id > after] if is_by_id else views[after:]
    shown = following[: query.limit]
    position = shown[-1].portal_id if shown and is_by_id else after + len(shown)
    return Page(tuple(await shown_portals(request, shown)), str(position) if len(following) > len(shown) else None)


async def get_portal(request: web.Request, _: None) -> PortalView:
    """Return one portal."""
    views = await visible_portals(request, only=int(request.match_info["portal"]))
    if not views:
        raise not_found("portal: it has not installed the app")
    [view] = await shown_portals(request, views)
    return view


async def get_settings(request: web.Request, _: None) -> PortalSettingsView:
    """Return what is different for one portal."""
    return await read_settings(request)


async def set_settings(request: web.Request, body: PortalSettingsBody) -> PortalSettingsView:
    """Change what is different for one portal."""
    change = PortalChange(
        name=body.name,
        handlers=None if body.handlers is None else ",".join(body.handlers),
        events=None if body.events is None else ",".join(body.events),
        region=body.region,
        time_zone=body.time_zone,
        currency=body.currency,
        values=tuple(body.own.items()),
    )
    return await change_settings(request, change, body.reason)


async def disconnect_portal(request: web.Request, body: ReasonBody) -> Disconnection:
    """Uninstall the app from one portal."""
    return Disconnection(await disconnect_named(request, int(request.match_info["portal"]), body.reason))
