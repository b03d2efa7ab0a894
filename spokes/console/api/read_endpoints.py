"""What programs look at. Rule: an asker's portals only; what is not theirs is not there."""

from aiohttp import web

from spokes.audit.object_hashes import pseudonym_key
from spokes.audit.records import Action
from spokes.console.accounts.actors import ACTOR
from spokes.console.api.request_schemas import OfAudit, OfDeliveries, OfEvents, OfObject
from spokes.console.api.response_schemas import OneDelivery, OneEvent, OneTimeline
from spokes.console.api.route import missing
from spokes.console.queries.budgets import PortalBudget, budgets
from spokes.console.queries.chain_check import recomputed
from spokes.console.queries.deliveries import Received, deliveries, delivery
from spokes.console.queries.events import event, events
from spokes.console.queries.objects import Reference
from spokes.console.queries.privacy_requests import Asked, privacy_requests
from spokes.console.queries.queue import Queue, queue
from spokes.console.queries.records import Page, Recorded, search
from spokes.console.queries.timeline import timeline
from spokes.console.web.app_keys import ENGINE, REDIS, SETTINGS
from spokes.core.errors import Problem, UnclearReference


async def see_queue(request: web.Request, _: None) -> Queue:
    """Return what waits, how long, and what is paused."""
    return await queue(request.app[REDIS], request[ACTOR].portals)


async def see_budget(request: web.Request, _: None) -> tuple[PortalBudget, ...]:
    """Return how much of HubSpot's limits is in use."""
    return await budgets(request.app[SETTINGS], request.app[REDIS], request[ACTOR].portals)


async def see_deliveries(request: web.Request, query: OfDeliveries) -> Page[Received]:
    """Return what was received, the newest first."""
    return await deliveries(
        request.app[ENGINE], request[ACTOR].portals, since=query.since, until=query.until, limit=query.limit,
        after=query.after,
    )  # fmt: skip


async def see_delivery(request: web.Request, _: None) -> OneDelivery:
    """Return one delivery."""
    app, name = request.app, request.match_info["id"]
    found = await delivery(app[REDIS], app[ENGINE], request[ACTOR].portals, name)
    if found is None:
        raise missing("delivery")
    return OneDelivery.of(found)


async def see_events(request: web.Request, query: OfEvents) -> Page[Recorded]:
    """Return what became of events, the newest first."""
    filters = query.filters(Action.EVENT)
    return await events(request.app[ENGINE], request[ACTOR].portals, filters, limit=query.limit, after=query.after)


async def see_event(request: web.Request, _: None) -> OneEvent:
    """Return one event through all its attempts."""
    app, key = request.app, request.match_info["key"]
    found = await event(app[REDIS], app[ENGINE], request[ACTOR].portals, key)
    if found is None:
        raise missing("event")
    return OneEvent.of(found)


async def see_timeline(request: web.Request, query: OfObject) -> OneTimeline:
    """Return all that happened to a CRM object."""
    app = request.app
    try:
        reference = Reference.from_text(query.object)
    except UnclearReference as unclear:
        raise Problem(422, "unclear_reference", str(unclear)) from None
    key = pseudonym_key(app[SETTINGS].master_key())
    found = await timeline(
        app[REDIS], app[ENGINE], request[ACTOR].portals, reference, key=key, limit=query.limit, after=query.after
    )  # fmt: skip
    return OneTimeline.of(found)


async def see_audit(request: web.Request, query: OfAudit) -> Page[Recorded]:
    """Return records of the audit, the newest first."""
    return await search(
        request.app[ENGINE], request[ACTOR].portals, query.filters(), limit=query.limit, after=query.after
    )


async def see_chain(request: web.Request, _: None) -> dict[str, object]:
    """Recompute the chain of hashes, and return what was found."""
    app = request.app
    found = await recomputed(app[ENGINE], request[ACTOR].portals, master=app[SETTINGS].master_key())
    return found.as_dict()


async def see_privacy_requests(request: web.Request, _: None) -> tuple[Asked, ...]:
    """Return what people have asked for, the most urgent first."""
    return await privacy_requests(request.app[ENGINE], request[ACTOR].portals)
