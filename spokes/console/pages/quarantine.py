"""The part *Unreadable* of the page *Dead letters*: list by reason, replay, discard. No value is shown."""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from spokes.console.accounts.actors import ACTOR
from spokes.console.accounts.policy import Permission, requires
from spokes.console.number_input import parse_number
from spokes.console.quarantine.contents import ContentView, find_content, find_contents, view_of
from spokes.console.queries.history.descriptions import explain_reason
from spokes.console.web.actions.dead_letter_actions import LetterAction
from spokes.console.web.actions.quarantine_actions import find_named_content, quarantine_of, settle_contents
from spokes.console.web.forms import form_text, read_form, required_number, required_reason
from spokes.console.web.rendering import render
from spokes.core.errors import HttpProblem
from spokes.queue.quarantine import QuarantinedContent

_SHOWN: Final = 50  # contents per reason


@dataclass(frozen=True, slots=True)
class ReasonGroup:
    """Contents that are quarantined for one reason: how many, and the newest."""

    reason: str
    count: int
    contents: list[ContentView]


@dataclass(frozen=True, slots=True)
class QuarantineList:
    """What is quarantined, by reason, the most frequent first; and what the reader filtered by."""

    groups: list[ReasonGroup]
    reason: str
    portal: str
    shown: int = _SHOWN


async def quarantine_list(request: web.Request) -> QuarantineList:
    """Return what is quarantined, filtered by the request's `unreadable` (a reason) and `portal`."""
    quarantine, portals = quarantine_of(request), request[ACTOR].portals
    reason, portal = request.query.get("unreadable", "")[:100], request.query.get("portal", "")[:20].strip()
    if portal:
        number = parse_number(portal)
        portals = frozenset({number} if number is not None and request[ACTOR].can_see(number) else ())
    counts: Counter[str] = Counter()
    newest: defaultdict[str, list[ContentView]] = defaultdict(list)
    async for content in find_contents(quarantine, portals, cause=reason or None):
        counts[content.reason] += 1
        if len(newest[content.reason]) < _SHOWN:
            newest[content.reason].append(view_of(quarantine, content))
    groups = [ReasonGroup(name, count, newest[name]) for name, count in counts.most_common()]
    return QuarantineList(groups, reason, portal)


@requires(Permission.LOOK)
async def content_page(request: web.Request) -> web.Response:
    """Show one quarantined content: the types of its fields, no value."""
    content = await find_named_content(request)
    if content is None:
        raise HttpProblem(
            404, "no_such_content", "There is no such quarantined content: it was replayed, discarded, or has expired."
        )
    view = view_of(quarantine_of(request), content)
    return render(request, "content.html", content=view, explain_reason=explain_reason)


@requires(Permission.SETTLE)
async def replay(request: web.Request) -> web.Response:
    """Admit the selected contents again."""
    return await _settle(request, LetterAction.REPLAY)


@requires(Permission.SETTLE)
async def discard(request: web.Request) -> web.Response:
    """Discard the selected contents."""
    return await _settle(request, LetterAction.DISCARD)


async def _settle(request: web.Request, action: LetterAction) -> web.Response:
    reason = await required_reason(request)
    contents = [content async for content in _selected_contents(request)]
    if not contents:
        raise HttpProblem(
            422, "none_chosen", "Nothing was selected, or the selected contents are gone. Go back and select some."
        )
    counts = await settle_contents(request, action, contents, reason)
    raise web.HTTPSeeOther(f"/console/dead?settled={action}&count={counts.admitted}&still={counts.unreadable}")


async def _selected_contents(request: web.Request) -> AsyncIterator[QuarantinedContent]:
    """Yield the contents that the form selects: single ones, or all of a reason."""
    form, portals, quarantine = await read_form(request), request[ACTOR].portals, quarantine_of(request)
    if form_text(form, "all"):
        async for content in find_contents(quarantine, portals, cause=form_text(form, "cause")):
            yield content
        return
    for value in filter(None, dict.fromkeys(form.getall("content", ()))):
        portal_text, _, key = str(value).partition(":")
        if selected := await find_content(quarantine, portals, required_number(portal_text), key):
            yield selected
