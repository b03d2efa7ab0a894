"""*Pauses*: paused portals, handlers and kinds of calls, and forms that pause and resume. The reason is audited."""

from aiohttp import web

from spokes.console.accounts.actors import ACTOR, ADDRESS
from spokes.console.accounts.policy import Permission, requires
from spokes.console.number_input import parse_number
from spokes.console.queries.queue import visible_pauses
from spokes.console.web.app_keys import REDIS, SETTINGS
from spokes.console.web.forms import form_text, read_form, required_reason
from spokes.console.web.rendering import render
from spokes.core.errors import HttpProblem, UnknownPortal
from spokes.queue.known_portals import known_portals
from spokes.queue.pauses.handler_pauses import HandlerPauses
from spokes.queue.pauses.portal_pauses import PortalPauses, resumption_note
from spokes.routing import load_router

_PATH = "/console/pauses"


@requires(Permission.LOOK)
async def page(request: web.Request) -> web.Response:
    """Show all pauses."""
    return await _render(request)


@requires(Permission.PAUSE)
async def resume(request: web.Request) -> web.Response:
    """Resume the portal that the form names, with all its paused calls."""
    reason, portal_id = await required_reason(request), await _portal_id(request)
    pauses = PortalPauses(request.app[REDIS])
    pause = (await pauses.list()).get(portal_id)
    name, address = request[ACTOR].name, request[ADDRESS]
    if not await pauses.operator_resume(portal_id, actor=name, reason=reason, address=address):
        raise HttpProblem(409, "not_paused", f"Portal {portal_id} is not paused any more.")
    return await _render(request, f"Portal {portal_id} is resumed. {resumption_note(pause)}".rstrip())


@requires(Permission.PAUSE)
async def pause_handler(request: web.Request) -> web.Response:
    """Pause the handler that the form names."""
    reason, portal_id, handler = await required_reason(request), await _portal_id(request), await _handler(request)
    name, address = request[ACTOR].name, request[ADDRESS]
    pauses = HandlerPauses(request.app[REDIS])
    try:
        await pauses.pause(handler, portal_id, actor=name, reason=reason, address=address)
    except UnknownPortal as error:
        raise HttpProblem(422, error.reason, str(error)) from None
    return await _render(request, f"Handler {handler} is paused in portal {portal_id}.")


@requires(Permission.PAUSE)
async def resume_handler(request: web.Request) -> web.Response:
    """Resume the handler that the form names; it may be one that is not registered any more."""
    reason, portal_id = await required_reason(request), await _portal_id(request)
    handler = form_text(await read_form(request), "handler", max_length=300)
    name, address = request[ACTOR].name, request[ADDRESS]
    pauses = HandlerPauses(request.app[REDIS])
    if not await pauses.resume(handler, [portal_id], actor=name, reason=reason, address=address):
        raise HttpProblem(409, "not_paused", "This handler is not paused any more.")
    return await _render(request, f"Handler {handler} is resumed in portal {portal_id}.")


async def _portal_id(request: web.Request) -> int:
    portal_id = parse_number(form_text(await read_form(request), "portal", max_length=18))
    if portal_id is None or not request[ACTOR].can_see(portal_id):
        raise HttpProblem(422, "wrong_portal", "Choose one of the portals on the page.")
    return portal_id


async def _handler(request: web.Request) -> str:
    handler = form_text(await read_form(request), "handler", max_length=300)
    if handler not in load_router(request.app[SETTINGS].handlers).names:
        raise HttpProblem(422, "wrong_handler", "Choose one of the handlers on the page.")
    return handler


async def _render(request: web.Request, done: str = "") -> web.Response:
    actor = request[ACTOR]
    portals, calls = await visible_pauses(request.app[REDIS], actor.portals)
    paused_ids = sorted({*portals, *(pause.portal_id for pause in calls)})
    resumable = {*portals, *(pause.portal_id for pause in calls if not pause.handler)}
    known = sorted(filter(actor.can_see, await known_portals(request.app[REDIS])))
    handlers = load_router(request.app[SETTINGS].handlers).names if known else ()
    return render(
        request, "pauses.html", portals=portals, calls=calls, paused_ids=paused_ids, resumable=resumable, known=known,
        handlers=handlers, done=done,
    )  # fmt: skip
