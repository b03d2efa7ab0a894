"""*Audit*: search, export, and whether the chain holds. Rule: the chain is of all portals, and for who sees all."""

from dataclasses import dataclass
from urllib.parse import urlencode

from aiohttp import web

from spokes.audit.checkpoints import CheckpointKind, load_checkpoints
from spokes.audit.records import Action, Outcome
from spokes.audit.verify import VerificationResult
from spokes.console.accounts.actors import ACTOR
from spokes.console.accounts.policy import Permission, requires
from spokes.console.pages.objects import record_style
from spokes.console.queries.chain_check import recompute_chain
from spokes.console.queries.descriptions import describe
from spokes.console.queries.records import search_records
from spokes.console.web.app_keys import ENGINE, SETTINGS
from spokes.console.web.audit_export import FILTER_NAMES, parse_filters
from spokes.console.web.rendering import render
from spokes.core.errors import HttpProblem


@dataclass(frozen=True, slots=True)
class ChainStatus:
    """How the chain stands: the newest signed place as a line to keep elsewhere, and what verifying found just now."""

    checkpoint: str
    at: int | None
    result: VerificationResult | None


@requires(Permission.AUDIT)
async def page(request: web.Request) -> web.Response:
    """Show the records that match."""
    return await _render_page(request, None)


@requires(Permission.AUDIT)
async def verify(request: web.Request) -> web.Response:
    """Recompute the chain, and show what was found. It changes nothing; it is a POST because it is much work."""
    app, portals = request.app, request[ACTOR].portals
    verdict = await recompute_chain(app[ENGINE], portals, master=app[SETTINGS].master_key())
    return await _render_page(request, verdict)


async def _render_page(request: web.Request, result: VerificationResult | None) -> web.Response:
    filters, faults = parse_filters(request.query)
    engine, actor = request.app[ENGINE], request[ACTOR]
    try:
        found = await search_records(engine, actor.portals, filters, after=request.query.get("after"))
    except ValueError:
        raise HttpProblem(422, "no_such_page", "There is no such page of the audit; search again.") from None
    asked = {name: request.query[name] for name in FILTER_NAMES if request.query.get(name, "").strip()}
    return render(
        request, "audit.html", status=422 if faults else 200, found=found, asked=asked, faults=faults,
        address=urlencode(asked), actions=list(Action), outcomes=list(Outcome), sentence=describe, kind=record_style,
        chain=await _chain_status(request, result) if actor.portals is None else None,
    )  # fmt: skip


async def _chain_status(request: web.Request, result: VerificationResult | None) -> ChainStatus:
    places = [place for place in await load_checkpoints(request.app[ENGINE]) if place.kind is CheckpointKind.CHECKPOINT]
    newest = places[-1] if places else None
    return ChainStatus(newest.to_text() if newest else "", newest.at if newest else None, result)
