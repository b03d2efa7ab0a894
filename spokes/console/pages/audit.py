"""*Audit*: search, export, and verification of the chain. The chain is shown to actors who may see all portals."""

from dataclasses import dataclass
from urllib.parse import urlencode

from aiohttp import web

from spokes.audit.checkpoints import CheckpointKind, load_checkpoints
from spokes.audit.records import Action, Outcome
from spokes.audit.verification.verify import VerificationResult
from spokes.console.accounts.actors import ACTOR
from spokes.console.accounts.policy import Permission, requires
from spokes.console.pages.objects import record_style
from spokes.console.queries.chain_check import recompute_chain
from spokes.console.queries.history.descriptions import describe
from spokes.console.queries.history.records import search_records
from spokes.console.web.app_keys import ENGINE, REDIS, SETTINGS
from spokes.console.web.audit_export import FILTER_NAMES, parse_filters
from spokes.console.web.rendering import render
from spokes.console.web.work_limits import WORK_LIMITS
from spokes.core.errors import HttpProblem


@dataclass(frozen=True, slots=True)
class ChainStatus:
    """The newest checkpoint as a line to keep elsewhere, its time, and the result of verifying just now."""

    checkpoint: str
    at: int | None
    result: VerificationResult | None


@requires(Permission.AUDIT)
async def page(request: web.Request) -> web.Response:
    """Show the matching records."""
    return await _render_page(request, None)


@requires(Permission.AUDIT)
async def verify(request: web.Request) -> web.Response:
    """Recompute the chain and show the result. A POST, although it changes nothing, because it is expensive."""
    app, portals = request.app, request[ACTOR].portals
    with app[WORK_LIMITS].verifications.running(request[ACTOR].name):
        result = await recompute_chain(app[SETTINGS], app[ENGINE], app[REDIS], portals)
    return await _render_page(request, result)


async def _render_page(request: web.Request, result: VerificationResult | None) -> web.Response:
    filters, faults = parse_filters(request.query)
    engine, actor = request.app[ENGINE], request[ACTOR]
    try:
        page_of_records = await search_records(engine, actor.portals, filters, after=request.query.get("after"))
    except ValueError:
        raise HttpProblem(422, "no_such_page", "There is no such page of the audit. Search again.") from None
    query = {name: request.query[name] for name in FILTER_NAMES if request.query.get(name, "").strip()}
    return render(
        request, "audit.html", status=422 if faults else 200, page=page_of_records, query=query, faults=faults,
        address=urlencode(query), actions=list(Action), outcomes=list(Outcome), describe=describe,
        record_style=record_style,
        chain=await _chain_status(request, result) if actor.portals is None else None,
    )  # fmt: skip


async def _chain_status(request: web.Request, result: VerificationResult | None) -> ChainStatus:
    stored = await load_checkpoints(request.app[ENGINE])
    checkpoints = [checkpoint for checkpoint in stored if checkpoint.kind is CheckpointKind.CHECKPOINT]
    newest = checkpoints[-1] if checkpoints else None
    return ChainStatus(newest.to_text() if newest else "", newest.at if newest else None, result)
