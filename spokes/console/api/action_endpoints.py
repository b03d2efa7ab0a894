"""What programs do: settle dead letters, pause and resume. Rule: each act has a reason, and the audit knows who did it.

The acts themselves are those of the command line; here they get an actor and an address.
"""

from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

from spokes.console.accounts.actors import ACTOR, ADDRESS
from spokes.console.api.request_schemas import Because, OfLetters, Settling
from spokes.console.api.response_schemas import Done, Letter
from spokes.console.api.route import missing
from spokes.console.queries.dead_letters import letters
from spokes.console.queries.records import Page
from spokes.console.web.app_keys import REDIS
from spokes.core.errors import Problem
from spokes.queue.dead_letters import DeadLetter, DeadLetters
from spokes.queue.portal_pauses import Circuit, Pause

_AT_A_TIME: Final = 100  # letters between two looks at other requests


async def see_letters(request: web.Request, query: OfLetters) -> Page[Letter]:
    """Return the dead letters that match, portal by portal and the newest first."""
    shown: list[DeadLetter] = []
    passed = query.after is None
    async for letter in _chosen(request, query.portal_id, query.cause, query.handler):
        if not passed:
            passed = query.after == _place(letter)
        elif len(shown) < query.limit:
            shown.append(letter)
        else:
            return Page(tuple(map(Letter.of, shown)), _place(shown[-1]))
    if not passed:
        raise Problem(410, "place_gone", "The letter that this page follows was settled; begin anew.")
    return Page(tuple(map(Letter.of, shown)))


async def see_letter(request: web.Request, _: None) -> Letter:
    """Return one dead letter."""
    return Letter.of(await _letter(request))


async def replay(request: web.Request, because: Because) -> Done:
    """Queue one dead letter again."""
    return await _settle(request, "replay", [await _letter(request)], because.reason)


async def discard(request: web.Request, because: Because) -> Done:
    """End one dead letter for good."""
    return await _settle(request, "discard", [await _letter(request)], because.reason)


async def replay_many(request: web.Request, which: Settling) -> Done:
    """Queue the dead letters that match again."""
    return await _settle(request, "replay", await _many(request, which), which.reason)


async def discard_many(request: web.Request, which: Settling) -> Done:
    """End the dead letters that match for good."""
    return await _settle(request, "discard", await _many(request, which), which.reason)


async def pause(request: web.Request, because: Because) -> Pause:
    """Let a portal's work wait until somebody resumes it."""
    portal_id, circuit = _portal(request), Circuit(request.app[REDIS])
    name, address = request[ACTOR].name, request[ADDRESS]
    await circuit.pause_by_hand(portal_id, actor=name, reason=because.reason, address=address)
    found = (await circuit.pauses()).get(portal_id)
    if found is None:
        raise Problem(409, "resumed_meanwhile", "Somebody has resumed the portal at the same moment.")
    return found


async def resume(request: web.Request, because: Because) -> Done:
    """Let a portal's work go on; the count is 0 where it was not paused."""
    name, address = request[ACTOR].name, request[ADDRESS]
    circuit = Circuit(request.app[REDIS])
    return Done(await circuit.resume_by_hand(_portal(request), actor=name, reason=because.reason, address=address))


def _portal(request: web.Request) -> int:
    portal_id = int(request.match_info["portal"])
    if not request[ACTOR].sees(portal_id):
        raise missing("portal")
    return portal_id


async def _letter(request: web.Request) -> DeadLetter:
    portal_id, key = int(request.match_info["portal"]), request.match_info["key"]
    found = await DeadLetters(request.app[REDIS]).get(portal_id, key) if request[ACTOR].sees(portal_id) else None
    if found is None:
        raise missing("dead letter: it was replayed, discarded, or has expired")
    return found


async def _many(request: web.Request, which: Settling) -> list[DeadLetter]:
    """All that match before anything is done: acting changes what is gone through."""
    asked = (which.portal_id, which.cause, which.handler)
    if not which.all and not which.keys and all(one is None for one in asked):
        raise Problem(422, "wrong_body", 'Say which: portal_id, cause, handler, keys, or "all": true.')
    return [letter async for letter in _chosen(request, *asked, keys=which.keys)]


async def _chosen(
    request: web.Request, portal_id: int | None, cause: str | None, handler: str | None, keys: tuple[str, ...] = ()
) -> AsyncIterator[DeadLetter]:
    portals = request[ACTOR].portals
    if portal_id is not None:
        portals = frozenset({portal_id} if request[ACTOR].sees(portal_id) else ())
    async for letter in letters(request.app[REDIS], portals, reason=cause, handler=handler, keys=frozenset(keys)):
        yield letter


async def _settle(request: web.Request, verb: str, chosen: list[DeadLetter], reason: str) -> Done:
    dead, name, address, count = DeadLetters(request.app[REDIS]), request[ACTOR].name, request[ADDRESS], 0
    act = dead.replay if verb == "replay" else dead.discard
    for start in range(0, len(chosen), _AT_A_TIME):
        batch = chosen[start : start + _AT_A_TIME]
        count += await act(batch, actor=name, reason=reason, address=address)
    return Done(count)


def _place(letter: DeadLetter) -> str:
    return f"{letter.portal_id}:{letter.entry.key}"
