"""*Gaps*: intervals in which events may have been missed, and a form that closes one. The reason is audited."""

from typing import Final

from aiohttp import web

from spokes.console.accounts.actors import ACTOR
from spokes.console.accounts.policy import Permission, requires
from spokes.console.web.app_keys import ENGINE, SETTINGS
from spokes.console.web.forms import form_text, read_form, required_reason
from spokes.console.web.rendering import render
from spokes.core.errors import HttpProblem, RecoveryRefused
from spokes.gaps.ledger import GapLedger

_CLOSED_SHOWN: Final = 50


@requires(Permission.LOOK)
async def page(request: web.Request) -> web.Response:
    """Show the open gaps and the last closed ones."""
    return await _render(request)


@requires(Permission.SETTLE)
async def close(request: web.Request) -> web.Response:
    """Close the gap that the form names."""
    reason, gap_id = await required_reason(request), form_text(await read_form(request), "gap", max_length=8)
    ledger, actor = GapLedger.from_settings(request.app[SETTINGS], request.app[ENGINE]), request[ACTOR]
    try:
        is_visible = actor.can_see((await ledger.find(gap_id)).portal_id)
        if is_visible:
            await ledger.close(gap_id, actor=actor.name, reason=reason)
    except RecoveryRefused:
        is_visible = False
    if not is_visible:
        raise HttpProblem(409, "no_open_gap", "This gap is not open any more.")
    return await _render(request, f"Gap {gap_id} is closed.")


async def _render(request: web.Request, done: str = "") -> web.Response:
    ledger = GapLedger.from_settings(request.app[SETTINGS], request.app[ENGINE])
    gaps = await ledger.list(include_closed=True, portals=request[ACTOR].portals)
    closed = [gap for gap in gaps if gap.proof is not None]
    return render(
        request, "gaps.html", open=[gap for gap in gaps if gap.proof is None], closed=closed[:_CLOSED_SHOWN], done=done
    )
