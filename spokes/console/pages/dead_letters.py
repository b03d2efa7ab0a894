"""*Dead letters*: list by cause, replay, discard, reveal. Every action requires a reason; values are masked."""

from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

from spokes.audit.records import Action, AuditRecord
from spokes.audit.stream import append_now
from spokes.console.accounts.actors import ACTOR, ADDRESS
from spokes.console.accounts.policy import Permission, requires
from spokes.console.pages.quarantine import quarantine_list
from spokes.console.queries.dead_letters import dead_letter_causes, find_dead_letters
from spokes.console.queries.history.descriptions import explain_failure, explain_reason
from spokes.console.web.actions.dead_letter_actions import LetterAction, find_letter, settle_letters
from spokes.console.web.app_keys import REDIS
from spokes.console.web.forms import form_text, read_form, required_number, required_reason
from spokes.console.web.rendering import render
from spokes.core.errors import HttpProblem
from spokes.queue.dead_letters import DeadLetter, DeadLetters

_LETTERS_SHOWN: Final = 50  # per cause
# Fields of an event that may contain personal data.
_PERSONAL_FIELDS: Final = frozenset({"propertyValue", "sourceId", "messageText", "messageId"})
_PATH: Final = "/console/dead"


@requires(Permission.LOOK)
async def page(request: web.Request) -> web.Response:
    """Show the dead letters by cause."""
    done = request.query.get("done", "")
    result = (done, required_number(request.query.get("count", ""))) if done in set(LetterAction) else None
    causes = await dead_letter_causes(request.app[REDIS], request[ACTOR].portals, newest=_LETTERS_SHOWN)
    return render(
        request, "dead.html", causes=causes, done=result, shown=_LETTERS_SHOWN, explain_reason=explain_reason,
        quarantined=await quarantine_list(request), settled=_settled_contents(request),
    )  # fmt: skip


@requires(Permission.LOOK)
async def letter_page(request: web.Request) -> web.Response:
    """Show one dead letter, its values masked."""
    return _render_letter(request, await _find_letter(request), revealed=False)


@requires(Permission.SETTLE)
async def replay(request: web.Request) -> web.Response:
    """Queue the selected letters again."""
    return await _settle(request, LetterAction.REPLAY)


@requires(Permission.SETTLE)
async def discard(request: web.Request) -> web.Response:
    """Discard the selected letters."""
    return await _settle(request, LetterAction.DISCARD)


@requires(Permission.REVEAL)
async def reveal(request: web.Request) -> web.Response:
    """Show the values of one letter, after the audit has recorded it."""
    letter = await _find_letter(request)
    reason = await required_reason(request)
    event = letter.entry.event
    record = AuditRecord(
        action=Action.VALUE_REVEALED, portal_id=letter.portal_id, reason=reason, actor=request[ACTOR].name,
        event_key=letter.entry.event_key, object_type=event.object_type, object_id=event.object_id,
        handler=letter.entry.handler,
        subscription_type=event.subscription_type, detail={"address": request[ADDRESS]},
    )  # fmt: skip
    await append_now(request.app[REDIS], record)
    return _render_letter(request, letter, revealed=True)


def _settled_contents(request: web.Request) -> tuple[str, int, int] | None:
    """Return what was done with quarantined contents: the action, how many, and how many are still unreadable."""
    action = request.query.get("settled", "")
    if action not in set(LetterAction):
        return None
    return action, required_number(request.query.get("count", "")), required_number(request.query.get("still", ""))


def _render_letter(request: web.Request, letter: DeadLetter, *, revealed: bool) -> web.Response:
    raw = letter.entry.raw
    hidden = sorted(_PERSONAL_FIELDS & raw.keys())
    values = {name: raw[name] if revealed else None for name in hidden}
    return render(
        request, "letter.html", letter=letter, values=values, revealed=revealed, explain_failure=explain_failure
    )


async def _find_letter(request: web.Request) -> DeadLetter:
    letter = await find_letter(request)
    if letter is None:
        raise HttpProblem(
            404, "no_such_letter", "There is no such dead letter: it was replayed, discarded, or has expired."
        )
    return letter


async def _settle(request: web.Request, action: LetterAction) -> web.Response:
    reason = await required_reason(request)
    letters = [letter async for letter in _selected_letters(request)]  # a list: settling changes the iterated index
    count = await settle_letters(request, action, letters, reason)
    if not count:
        raise HttpProblem(
            422, "none_chosen", "No dead letter was selected, or the selected ones are gone. Go back and select some."
        )
    raise web.HTTPSeeOther(f"{_PATH}?done={action}&count={count}")


async def _selected_letters(request: web.Request) -> AsyncIterator[DeadLetter]:
    """Yield the letters that the form selects: single ones, or all of a cause."""
    form, actor, redis = await read_form(request), request[ACTOR], request.app[REDIS]
    if form_text(form, "all"):
        async for letter in find_dead_letters(
            redis, actor.portals, reason=form_text(form, "cause"), handler=form_text(form, "handler")
        ):
            yield letter
        return
    dead = DeadLetters(redis)
    for value in filter(None, dict.fromkeys(form.getall("letter", ()))):
        portal_text, _, key = str(value).partition(":")
        portal_id = required_number(portal_text)
        if actor.can_see(portal_id) and (selected := await dead.get(portal_id, key)):
            yield selected
