"""*Audit*: search, export, and whether the chain holds. Rule: the chain is of all portals, and for who sees all."""

from dataclasses import dataclass
from urllib.parse import urlencode

from aiohttp import web

from spokes.audit.checkpoints import Kind, stored
from spokes.audit.records import Action, Outcome
from spokes.audit.verify import Verdict
from spokes.console.accounts.actors import ACTOR
from spokes.console.accounts.policy import Permission, allow
from spokes.console.pages.objects import kind
from spokes.console.queries.chain_check import recomputed
from spokes.console.queries.descriptions import sentence
from spokes.console.queries.records import search
from spokes.console.web.app_keys import ENGINE, SETTINGS
from spokes.console.web.audit_export import NAMES, read
from spokes.console.web.rendering import render
from spokes.core.errors import Problem


@dataclass(frozen=True, slots=True)
class Chain:
    """How the chain stands: the newest signed place as a line to keep elsewhere, and what verifying found just now."""

    checkpoint: str
    at: int | None
    verdict: Verdict | None


@allow(Permission.AUDIT)
async def page(request: web.Request) -> web.Response:
    """Show the records that match."""
    return await _page(request, None)


@allow(Permission.AUDIT)
async def check(request: web.Request) -> web.Response:
    """Recompute the chain, and show what was found. It changes nothing; it is a POST because it is much work."""
    app, portals = request.app, request[ACTOR].portals
    verdict = await recomputed(app[ENGINE], portals, master=app[SETTINGS].master_key())
    return await _page(request, verdict)


async def _page(request: web.Request, verdict: Verdict | None) -> web.Response:
    filters, faults = read(request.query)
    engine, actor = request.app[ENGINE], request[ACTOR]
    try:
        found = await search(engine, actor.portals, filters, after=request.query.get("after"))
    except ValueError:
        raise Problem(422, "no_such_page", "There is no such page of the audit; search again.") from None
    asked = {name: request.query[name] for name in NAMES if request.query.get(name, "").strip()}
    return render(
        request, "audit.html", status=422 if faults else 200, found=found, asked=asked, faults=faults,
        address=urlencode(asked), actions=list(Action), outcomes=list(Outcome), sentence=sentence, kind=kind,
        chain=await _chain(request, verdict) if actor.portals is None else None,
    )  # fmt: skip


async def _chain(request: web.Request, verdict: Verdict | None) -> Chain:
    places = [place for place in await stored(request.app[ENGINE]) if place.kind is Kind.CHECKPOINT]
    newest = places[-1] if places else None
    return Chain(newest.to_text() if newest else "", newest.at if newest else None, verdict)
