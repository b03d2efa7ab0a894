"""GET endpoints. Objects of portals that the actor may not see are a 404."""

from aiohttp import web

from spokes.audit.object_hashes import object_hash_key
from spokes.audit.records import Action
from spokes.console.accounts.actors import ACTOR
from spokes.console.api.request_schemas import AuditQuery, DeliveryQuery, EventQuery, TimelineQuery
from spokes.console.api.response_schemas import DeliveryView, EventView, TimelineView
from spokes.console.api.route import not_found
from spokes.console.queries.budgets import PortalBudget, portal_budgets
from spokes.console.queries.chain_check import recompute_chain
from spokes.console.queries.history.deliveries import DeliverySummary, find_delivery, search_deliveries
from spokes.console.queries.history.events import find_event, search_events
from spokes.console.queries.history.objects import Reference
from spokes.console.queries.history.records import Page, RecordView, search_records
from spokes.console.queries.history.timeline import load_timeline
from spokes.console.queries.privacy_requests import PrivacyRequestView, list_privacy_requests
from spokes.console.queries.queue import Queue, queue_status
from spokes.console.web.app_keys import ENGINE, REDIS, SETTINGS
from spokes.console.web.work_limits import WORK_LIMITS
from spokes.core.errors import AmbiguousReference, HttpProblem
from spokes.core.master_key import load_master_key


async def get_queue(request: web.Request, _: None) -> Queue:
    """Return queue length, lag and pauses."""
    return await queue_status(request.app[REDIS], request[ACTOR].portals)


async def get_budget(request: web.Request, _: None) -> tuple[PortalBudget, ...]:
    """Return the use of HubSpot's limits per portal."""
    return await portal_budgets(request.app[SETTINGS], request.app[REDIS], request[ACTOR].portals)


async def get_deliveries(request: web.Request, query: DeliveryQuery) -> Page[DeliverySummary]:
    """Return a page of received deliveries, newest first."""
    return await search_deliveries(
        request.app[ENGINE], request[ACTOR].portals, since=query.since, until=query.until, limit=query.limit,
        after=query.after,
    )  # fmt: skip


async def get_delivery(request: web.Request, _: None) -> DeliveryView:
    """Return one delivery."""
    app, name = request.app, request.match_info["id"]
    details = await find_delivery(app[REDIS], app[ENGINE], request[ACTOR].portals, name)
    if details is None:
        raise not_found("delivery")
    return DeliveryView.from_details(details)


async def get_events(request: web.Request, query: EventQuery) -> Page[RecordView]:
    """Return a page of event outcomes, newest first."""
    filters = query.filters(Action.EVENT)
    return await search_events(
        request.app[ENGINE], request[ACTOR].portals, filters, limit=query.limit, after=query.after
    )


async def get_event(request: web.Request, _: None) -> EventView:
    """Return one event through all its attempts."""
    app, key = request.app, request.match_info["key"]
    details = await find_event(app[REDIS], app[ENGINE], request[ACTOR].portals, key)
    if details is None:
        raise not_found("event")
    return EventView.from_details(details)


async def get_timeline(request: web.Request, query: TimelineQuery) -> TimelineView:
    """Return a page of a CRM object's timeline."""
    app = request.app
    try:
        reference = Reference.from_text(query.object)
    except AmbiguousReference as unclear:
        raise HttpProblem(422, "unclear_reference", str(unclear)) from None
    key = object_hash_key(load_master_key(app[SETTINGS]))
    timeline = await load_timeline(
        app[REDIS], app[ENGINE], request[ACTOR].portals, reference, hash_key=key, limit=query.limit, after=query.after
    )  # fmt: skip
    return TimelineView.from_timeline(timeline)


async def get_audit_records(request: web.Request, query: AuditQuery) -> Page[RecordView]:
    """Return a page of audit records, newest first."""
    return await search_records(
        request.app[ENGINE], request[ACTOR].portals, query.filters(), limit=query.limit, after=query.after
    )


async def get_chain_verification(request: web.Request, _: None) -> dict[str, object]:
    """Recompute the hash chain, compare it with its end as Redis keeps it, and return the result."""
    app = request.app
    with app[WORK_LIMITS].verifications.running(request[ACTOR].name):
        result = await recompute_chain(app[SETTINGS], app[ENGINE], app[REDIS], request[ACTOR].portals)
    return result.as_dict()


async def get_privacy_requests(request: web.Request, _: None) -> tuple[PrivacyRequestView, ...]:
    """Return the privacy requests, most urgent first."""
    return await list_privacy_requests(request.app[ENGINE], request[ACTOR].portals)
