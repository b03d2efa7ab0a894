"""*Portals*: the portals that installed the app, filtered and sorted; one portal, with a form that disconnects it."""

from typing import Final

from aiohttp import web

from spokes.console.accounts.actors import ACTOR
from spokes.console.accounts.policy import Permission, requires
from spokes.console.installs.portal_views import SORTS, matching
from spokes.console.web.actions.portal_list import disconnect_named, shown_portals, visible_portals
from spokes.console.web.app_keys import REDIS, SETTINGS
from spokes.console.web.forms import form_text, read_form, required_number, required_reason
from spokes.console.web.rendering import render
from spokes.core import clock
from spokes.core.errors import HttpProblem
from spokes.queue.known_portals import known_portals

_PAGE_SIZE: Final = 100
_STATES: Final = ("installed", "missing_scopes", "needs_reinstall", "paused", "uninstalled")
_MAX_TEXT: Final = 100  # characters
_MAX_OTHERS: Final = 20  # portals that did not install the app


@requires(Permission.LOOK)
async def page(request: web.Request) -> web.Response:
    """Show a page of the portals."""
    query = request.query
    state, sort = query.get("state", ""), query.get("sort", "portal")
    state, sort = state if state in _STATES else "", sort if sort in SORTS else "portal"
    text = query.get("q", "").strip()[:_MAX_TEXT]
    number = max(1, required_number(query.get("page", "1")))
    everything = await visible_portals(request)
    views = matching(everything, state=state, text=text, sort=sort)
    last = max(1, -(-len(views) // _PAGE_SIZE))
    number = min(number, last)
    shown = await shown_portals(request, views[(number - 1) * _PAGE_SIZE : number * _PAGE_SIZE])
    installed = {view.portal_id for view in everything}
    others = sorted(filter(request[ACTOR].can_see, await known_portals(request.app[REDIS]) - installed))
    return render(
        request, "portals.html", views=shown, count=len(views), others=others[:_MAX_OTHERS],
        total=len(everything), state=state, sort=sort, text=text, number=number, last=last, states=_STATES,
        sorts=tuple(SORTS), now=clock.now_ms(), public_url=request.app[SETTINGS].public_url,
    )  # fmt: skip


@requires(Permission.LOOK)
async def portal_page(request: web.Request) -> web.Response:
    """Show one portal."""
    return await _render_portal(request)


@requires(Permission.DISCONNECT)
async def disconnect_portal(request: web.Request) -> web.Response:
    """Disconnect the portal of the address, if the form repeats its id."""
    portal_id, reason = int(request.match_info["portal"]), await required_reason(request)
    if form_text(await read_form(request), "portal", max_length=18) != str(portal_id):
        raise HttpProblem(422, "not_confirmed", "Repeat the portal's id to confirm. Nothing was done; go back.")
    was_installed = await disconnect_named(request, portal_id, reason)
    done = "is disconnected" if was_installed else "was not installed at HubSpot any more, and is disconnected here too"
    return await _render_portal(request, f"Portal {portal_id} {done}.")


async def _render_portal(request: web.Request, done: str = "") -> web.Response:
    views = await visible_portals(request, only=int(request.match_info["portal"]))
    if not views:
        raise HttpProblem(404, "no_such_portal", "This portal has not installed the app.")
    settings = request.app[SETTINGS]
    [view] = await shown_portals(request, views)
    return render(
        request, "portal.html", view=view, done=done, now=clock.now_ms(), uninstalled_days=settings.uninstalled_days
    )
