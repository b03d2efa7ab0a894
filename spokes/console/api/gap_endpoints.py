"""Endpoints of the gaps. Gaps of portals that the actor may not see are a 404."""

from aiohttp import web

from spokes.backfill.recovery_report import recovery_report
from spokes.backfill.store import BackfillStore
from spokes.console.accounts.actors import ACTOR
from spokes.console.api.request_schemas import GapQuery, ReasonBody
from spokes.console.api.response_schemas import GapView
from spokes.console.api.route import not_found
from spokes.console.web.app_keys import ENGINE, SETTINGS
from spokes.core.errors import RecoveryRefused
from spokes.gaps.gap import Gap
from spokes.gaps.ledger import GapLedger


async def get_gaps(request: web.Request, query: GapQuery) -> tuple[Gap, ...]:
    """Return the gaps, the oldest open one first."""
    portals = request[ACTOR].portals
    return tuple(await _ledger(request).list(include_closed=query.closed == "true", portals=portals, limit=query.limit))


async def get_gap(request: web.Request, _: None) -> GapView:
    """Return one gap, with the outcomes of its events."""
    gap = await _find(request)
    settings, engine = request.app[SETTINGS], request.app[ENGINE]
    store = BackfillStore.from_settings(settings, engine, request[ACTOR].name)
    return GapView(gap, await recovery_report(engine, store, gap))


async def close_gap(request: web.Request, body: ReasonBody) -> Gap:
    """Close an open gap without a proof."""
    gap = await _find(request)
    if gap.proof is not None:
        raise not_found("open gap")
    try:
        return await _ledger(request).close(gap.id, actor=request[ACTOR].name, reason=body.reason)
    except RecoveryRefused:
        raise not_found("open gap") from None


async def _find(request: web.Request) -> Gap:
    try:
        gap = await _ledger(request).find(request.match_info["id"])
    except RecoveryRefused:
        raise not_found("gap") from None
    if not request[ACTOR].can_see(gap.portal_id):
        raise not_found("gap")
    return gap


def _ledger(request: web.Request) -> GapLedger:
    return GapLedger.from_settings(request.app[SETTINGS], request.app[ENGINE])
