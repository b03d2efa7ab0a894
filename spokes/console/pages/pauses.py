"""*Pauses*: paused portals and kinds of calls, and a form that resumes a portal. The reason is audited."""

from aiohttp import web

from spokes.console.accounts.actors import ACTOR, ADDRESS
from spokes.console.accounts.policy import Permission, requires
from spokes.console.queries.queue import visible_pauses
from spokes.console.web.app_keys import REDIS
from spokes.console.web.forms import form_text, read_form, required_reason
from spokes.console.web.rendering import render
from spokes.core.errors import HttpProblem
from spokes.queue.portal_pauses import PortalPauses, resumption_note

_PATH = "/console/pauses"


@requires(Permission.LOOK)
async def page(request: web.Request) -> web.Response:
    """Show all pauses."""
    return await _render(request)


@requires(Permission.PAUSE)
async def resume(request: web.Request) -> web.Response:
    """Resume the portal that the form names, with all its paused calls."""
    reason = await required_reason(request)
    portal = form_text(await read_form(request), "portal", max_length=18)
    if not (portal.isascii() and portal.isdecimal() and request[ACTOR].can_see(int(portal))):
        raise HttpProblem(422, "wrong_portal", "Choose one of the portals on the page.")
    pauses, portal_id = PortalPauses(request.app[REDIS]), int(portal)
    pause = (await pauses.list()).get(portal_id)
    name, address = request[ACTOR].name, request[ADDRESS]
    if not await pauses.operator_resume(portal_id, actor=name, reason=reason, address=address):
        raise HttpProblem(409, "not_paused", f"Portal {portal_id} is not paused any more.")
    return await _render(request, f"Portal {portal_id} is resumed. {resumption_note(pause)}".rstrip())


async def _render(request: web.Request, done: str = "") -> web.Response:
    portals, calls = await visible_pauses(request.app[REDIS], request[ACTOR].portals)
    paused_ids = sorted({*portals, *(pause.portal_id for pause in calls)})
    return render(request, "pauses.html", portals=portals, calls=calls, paused_ids=paused_ids, done=done)
