"""Endpoints to list, replay and discard quarantined contents; every action requires a reason."""

from collections.abc import AsyncIterator

from aiohttp import web

from spokes.console.accounts.actors import ACTOR
from spokes.console.api.request_schemas import QuarantineQuery, QuarantineSelection, ReasonBody
from spokes.console.api.response_schemas import QuarantineResult
from spokes.console.api.route import not_found
from spokes.console.number_input import parse_number
from spokes.console.quarantine.contents import ContentPlace, ContentView, find_content, find_contents, view_of
from spokes.console.queries.history.records import Page
from spokes.console.web.actions.dead_letter_actions import LetterAction
from spokes.console.web.actions.quarantine_actions import find_named_content, quarantine_of, settle_contents
from spokes.core.errors import HttpProblem
from spokes.queue.quarantine import QuarantinedContent


async def get_contents(request: web.Request, query: QuarantineQuery) -> Page[ContentView]:
    """Return a page of quarantined contents, portal by portal, newest first."""
    after = None if query.after is None else await _place_of(request, query.after)
    quarantine, shown = quarantine_of(request), list[ContentView]()
    async for content in _matching(request, query.portal_id, query.cause, after=after):
        if len(shown) == query.limit:
            return Page(tuple(shown), f"{shown[-1].portal_id}:{shown[-1].key}")
        shown.append(view_of(quarantine, content))
    return Page(tuple(shown))


async def get_content(request: web.Request, _: None) -> ContentView:
    """Return one quarantined content."""
    return view_of(quarantine_of(request), await _find(request))


async def replay(request: web.Request, body: ReasonBody) -> QuarantineResult:
    """Admit one quarantined content again."""
    return await _settle(request, LetterAction.REPLAY, [await _find(request)], body.reason)


async def discard(request: web.Request, body: ReasonBody) -> QuarantineResult:
    """Discard one quarantined content."""
    return await _settle(request, LetterAction.DISCARD, [await _find(request)], body.reason)


async def replay_many(request: web.Request, body: QuarantineSelection) -> QuarantineResult:
    """Admit the matching quarantined contents again."""
    return await _settle(request, LetterAction.REPLAY, await _select(request, body), body.reason)


async def discard_many(request: web.Request, body: QuarantineSelection) -> QuarantineResult:
    """Discard the matching quarantined contents."""
    return await _settle(request, LetterAction.DISCARD, await _select(request, body), body.reason)


async def _settle(
    request: web.Request, action: LetterAction, contents: list[QuarantinedContent], reason: str
) -> QuarantineResult:
    counts = await settle_contents(request, action, contents, reason)
    return QuarantineResult(counts.admitted, counts.unreadable)


async def _find(request: web.Request) -> QuarantinedContent:
    content = await find_named_content(request)
    if content is None:
        raise not_found("quarantined content: it was replayed, discarded, or has expired")
    return content


async def _select(request: web.Request, selection: QuarantineSelection) -> list[QuarantinedContent]:
    if not selection.all and not selection.keys and selection.portal_id is None and selection.cause is None:
        raise HttpProblem(422, "wrong_body", 'Select contents by portal_id, cause or keys, or send "all": true.')
    return [
        content
        async for content in _matching(request, selection.portal_id, selection.cause, keys=frozenset(selection.keys))
    ]


async def _matching(
    request: web.Request,
    portal_id: int | None,
    cause: str | None,
    *,
    keys: frozenset[str] = frozenset(),
    after: ContentPlace | None = None,
) -> AsyncIterator[QuarantinedContent]:
    portals = request[ACTOR].portals
    if portal_id is not None:
        portals = frozenset({portal_id} if request[ACTOR].can_see(portal_id) else ())
    async for content in find_contents(quarantine_of(request), portals, cause=cause, keys=keys, after=after):
        yield content


async def _place_of(request: web.Request, cursor: str) -> ContentPlace:
    portal_text, _, key = cursor.partition(":")
    portal_id = parse_number(portal_text)
    quarantine, portals = quarantine_of(request), request[ACTOR].portals
    if portal_id is None or await find_content(quarantine, portals, portal_id, key) is None:
        raise HttpProblem(410, "place_gone", "The content before this page was settled. Start again without `after`.")
    return ContentPlace(portal_id, key)
