"""Endpoints to list, replay and discard dead letters, and to pause and resume portals and handlers.

Every action requires a reason, which the audit records with actor and address.
"""

from collections.abc import AsyncIterator

from aiohttp import web

from spokes.console.accounts.actors import ACTOR, ADDRESS
from spokes.console.api.request_schemas import DeadLetterQuery, DeadLetterSelection, ReasonBody
from spokes.console.api.response_schemas import ActionResult, DeadLetterView, Resumption
from spokes.console.api.route import not_found
from spokes.console.number_input import parse_number
from spokes.console.queries.dead_letters import Place, find_dead_letters, place_of
from spokes.console.queries.history.records import Page
from spokes.console.web.actions.dead_letter_actions import LetterAction, find_letter, settle_letters
from spokes.console.web.app_keys import REDIS, SETTINGS
from spokes.core.errors import HttpProblem, UnknownPortal
from spokes.queue.dead_letters import DeadLetter
from spokes.queue.pauses.handler_pauses import HandlerPauses
from spokes.queue.pauses.portal_pauses import PortalPause, PortalPauses, resumption_note
from spokes.routing import load_router


async def get_dead_letters(request: web.Request, query: DeadLetterQuery) -> Page[DeadLetterView]:
    """Return a page of matching dead letters, portal by portal, newest first."""
    after = None if query.after is None else await _place_of(request, query.after)
    shown: list[DeadLetter] = []
    async for letter in _matching_letters(request, query.portal_id, query.cause, query.handler, after=after):
        if len(shown) == query.limit:
            return Page(tuple(map(DeadLetterView.from_letter, shown)), _cursor(shown[-1]))
        shown.append(letter)
    return Page(tuple(map(DeadLetterView.from_letter, shown)))


async def get_dead_letter(request: web.Request, _: None) -> DeadLetterView:
    """Return one dead letter."""
    return DeadLetterView.from_letter(await _find_letter(request))


async def replay(request: web.Request, body: ReasonBody) -> ActionResult:
    """Queue one dead letter again."""
    letters = [await _find_letter(request)]
    return ActionResult(await settle_letters(request, LetterAction.REPLAY, letters, body.reason))


async def discard(request: web.Request, body: ReasonBody) -> ActionResult:
    """Discard one dead letter."""
    letters = [await _find_letter(request)]
    return ActionResult(await settle_letters(request, LetterAction.DISCARD, letters, body.reason))


async def replay_many(request: web.Request, body: DeadLetterSelection) -> ActionResult:
    """Queue the matching dead letters again."""
    letters = await _select_letters(request, body)
    return ActionResult(await settle_letters(request, LetterAction.REPLAY, letters, body.reason))


async def discard_many(request: web.Request, body: DeadLetterSelection) -> ActionResult:
    """Discard the matching dead letters."""
    letters = await _select_letters(request, body)
    return ActionResult(await settle_letters(request, LetterAction.DISCARD, letters, body.reason))


async def pause(request: web.Request, body: ReasonBody) -> PortalPause:
    """Pause a portal until an operator resumes it."""
    portal_id, pauses = _portal_id(request), PortalPauses(request.app[REDIS])
    name, address = request[ACTOR].name, request[ADDRESS]
    try:
        await pauses.operator_pause(portal_id, actor=name, reason=body.reason, address=address)
    except UnknownPortal as error:
        raise HttpProblem(404, error.reason, "No worker has this portal's credentials and it has no events.") from None
    current = (await pauses.list()).get(portal_id)
    if current is None:
        raise HttpProblem(409, "resumed_meanwhile", "The portal was resumed at the same moment.")
    return current


async def resume(request: web.Request, body: ReasonBody) -> Resumption:
    """Resume a portal; the count is 0 if it was not paused."""
    name, address = request[ACTOR].name, request[ADDRESS]
    portal_id, pauses = _portal_id(request), PortalPauses(request.app[REDIS])
    pause = (await pauses.list()).get(portal_id)
    resumed = await pauses.operator_resume(portal_id, actor=name, reason=body.reason, address=address)
    return Resumption(int(resumed), resumption_note(pause) if resumed else "")


async def pause_handler(request: web.Request, body: ReasonBody) -> ActionResult:
    """Pause a handler in a portal until an operator resumes it; its events wait, others go on."""
    portal_id, handler = _portal_id(request), request.match_info["handler"]
    if handler not in load_router(request.app[SETTINGS].handlers).names:
        raise not_found("handler")
    name, address = request[ACTOR].name, request[ADDRESS]
    pauses = HandlerPauses(request.app[REDIS])
    try:
        paused = await pauses.pause(handler, portal_id, actor=name, reason=body.reason, address=address)
    except UnknownPortal as error:
        raise HttpProblem(404, error.reason, "No worker has this portal's credentials and it has no events.") from None
    return ActionResult(len(paused))


async def resume_handler(request: web.Request, body: ReasonBody) -> ActionResult:
    """Resume a handler in a portal; the count is 0 if it was not paused."""
    name, address = request[ACTOR].name, request[ADDRESS]
    handler, pauses = request.match_info["handler"], HandlerPauses(request.app[REDIS])
    resumed = await pauses.resume(handler, [_portal_id(request)], actor=name, reason=body.reason, address=address)
    return ActionResult(len(resumed))


def _portal_id(request: web.Request) -> int:
    portal_id = int(request.match_info["portal"])
    if not request[ACTOR].can_see(portal_id):
        raise not_found("portal")
    return portal_id


async def _find_letter(request: web.Request) -> DeadLetter:
    letter = await find_letter(request)
    if letter is None:
        raise not_found("dead letter: it was replayed, discarded, or has expired")
    return letter


async def _select_letters(request: web.Request, selection: DeadLetterSelection) -> list[DeadLetter]:
    """Return all matching letters as a list: settling them changes the index that is iterated."""
    filters = (selection.portal_id, selection.cause, selection.handler)
    if not selection.all and not selection.keys and all(value is None for value in filters):
        raise HttpProblem(
            422, "wrong_body", 'Select dead letters by portal_id, cause, handler or keys, or send "all": true.'
        )
    return [letter async for letter in _matching_letters(request, *filters, keys=selection.keys)]


async def _matching_letters(
    request: web.Request,
    portal_id: int | None,
    cause: str | None,
    handler: str | None,
    *,
    keys: tuple[str, ...] = (),
    after: Place | None = None,
) -> AsyncIterator[DeadLetter]:
    portals = request[ACTOR].portals
    if portal_id is not None:
        portals = frozenset({portal_id} if request[ACTOR].can_see(portal_id) else ())
    async for letter in find_dead_letters(
        request.app[REDIS], portals, reason=cause, handler=handler, keys=frozenset(keys), after=after
    ):
        yield letter


async def _place_of(request: web.Request, cursor: str) -> Place:
    portal_id, _, key = cursor.partition(":")
    portal = parse_number(portal_id)
    place = None if portal is None else await place_of(request.app[REDIS], request[ACTOR].portals, portal, key)
    if place is None:
        raise HttpProblem(
            410, "place_gone", "The dead letter before this page was settled. Start again without `after`."
        )
    return place


def _cursor(letter: DeadLetter) -> str:
    return f"{letter.portal_id}:{letter.entry.key}"
