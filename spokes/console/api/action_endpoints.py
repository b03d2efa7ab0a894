"""Endpoints to list, replay and discard dead letters, and to pause and resume portals.

Every action requires a reason, which the audit records with actor and address.
"""

from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

from spokes.console.accounts.actors import ACTOR, ADDRESS
from spokes.console.api.request_schemas import DeadLetterQuery, DeadLetterSelection, ReasonBody
from spokes.console.api.response_schemas import ActionResult, DeadLetterView
from spokes.console.api.route import not_found
from spokes.console.queries.dead_letters import find_dead_letters
from spokes.console.queries.records import Page
from spokes.console.web.app_keys import REDIS
from spokes.core.errors import HttpProblem
from spokes.queue.dead_letters import DeadLetter, DeadLetters
from spokes.queue.portal_pauses import PortalPause, PortalPauses

_BATCH_SIZE: Final = 100  # letters per call, so that other requests are served in between


async def get_dead_letters(request: web.Request, query: DeadLetterQuery) -> Page[DeadLetterView]:
    """Return a page of matching dead letters, portal by portal, newest first."""
    shown: list[DeadLetter] = []
    passed = query.after is None
    async for letter in _matching_letters(request, query.portal_id, query.cause, query.handler):
        if not passed:
            passed = query.after == _cursor(letter)
        elif len(shown) < query.limit:
            shown.append(letter)
        else:
            return Page(tuple(map(DeadLetterView.from_letter, shown)), _cursor(shown[-1]))
    if not passed:
        raise HttpProblem(
            410, "place_gone", "The dead letter before this page was settled. Start again without `after`."
        )
    return Page(tuple(map(DeadLetterView.from_letter, shown)))


async def get_dead_letter(request: web.Request, _: None) -> DeadLetterView:
    """Return one dead letter."""
    return DeadLetterView.from_letter(await _find_letter(request))


async def replay(request: web.Request, body: ReasonBody) -> ActionResult:
    """Queue one dead letter again."""
    return await _settle(request, "replay", [await _find_letter(request)], body.reason)


async def discard(request: web.Request, body: ReasonBody) -> ActionResult:
    """Discard one dead letter."""
    return await _settle(request, "discard", [await _find_letter(request)], body.reason)


async def replay_many(request: web.Request, body: DeadLetterSelection) -> ActionResult:
    """Queue the matching dead letters again."""
    return await _settle(request, "replay", await _select_letters(request, body), body.reason)


async def discard_many(request: web.Request, body: DeadLetterSelection) -> ActionResult:
    """Discard the matching dead letters."""
    return await _settle(request, "discard", await _select_letters(request, body), body.reason)


async def pause(request: web.Request, body: ReasonBody) -> PortalPause:
    """Pause a portal until an operator resumes it."""
    portal_id, circuit = _portal_id(request), PortalPauses(request.app[REDIS])
    name, address = request[ACTOR].name, request[ADDRESS]
    await circuit.operator_pause(portal_id, actor=name, reason=body.reason, address=address)
    current = (await circuit.list()).get(portal_id)
    if current is None:
        raise HttpProblem(409, "resumed_meanwhile", "The portal was resumed at the same moment.")
    return current


async def resume(request: web.Request, body: ReasonBody) -> ActionResult:
    """Resume a portal; the count is 0 if it was not paused."""
    name, address = request[ACTOR].name, request[ADDRESS]
    circuit = PortalPauses(request.app[REDIS])
    return ActionResult(
        await circuit.operator_resume(_portal_id(request), actor=name, reason=body.reason, address=address)
    )


def _portal_id(request: web.Request) -> int:
    portal_id = int(request.match_info["portal"])
    if not request[ACTOR].can_see(portal_id):
        raise not_found("portal")
    return portal_id


async def _find_letter(request: web.Request) -> DeadLetter:
    portal_id, key = int(request.match_info["portal"]), request.match_info["key"]
    letter = await DeadLetters(request.app[REDIS]).get(portal_id, key) if request[ACTOR].can_see(portal_id) else None
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
    request: web.Request, portal_id: int | None, cause: str | None, handler: str | None, keys: tuple[str, ...] = ()
) -> AsyncIterator[DeadLetter]:
    portals = request[ACTOR].portals
    if portal_id is not None:
        portals = frozenset({portal_id} if request[ACTOR].can_see(portal_id) else ())
    async for letter in find_dead_letters(
        request.app[REDIS], portals, reason=cause, handler=handler, keys=frozenset(keys)
    ):
        yield letter


async def _settle(request: web.Request, verb: str, letters: list[DeadLetter], reason: str) -> ActionResult:
    dead, name, address, count = DeadLetters(request.app[REDIS]), request[ACTOR].name, request[ADDRESS], 0
    act = dead.replay if verb == "replay" else dead.discard
    for start in range(0, len(letters), _BATCH_SIZE):
        batch = letters[start : start + _BATCH_SIZE]
        count += await act(batch, actor=name, reason=reason, address=address)
    return ActionResult(count)


def _cursor(letter: DeadLetter) -> str:
    return f"{letter.portal_id}:{letter.entry.key}"
