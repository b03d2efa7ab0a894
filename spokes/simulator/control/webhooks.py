"""Control endpoints for webhooks: deliveries, hand-made requests, the target, subscriptions.

Each function serves one path of `spokes.simulator.control`.
"""

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from aiohttp import web

from spokes.simulator.api.parameters import texts_member
from spokes.simulator.config import Subscription, Target
from spokes.simulator.control.parameters import check_fields, requested_limit, requested_portal
from spokes.simulator.default_subscriptions import chosen_subscriptions
from spokes.simulator.webhooks.delivery_log import DeliveryState
from spokes.simulator.webhooks.signing import SIGNING_VARIANTS

if TYPE_CHECKING:
    from spokes.simulator.app import Simulator


async def deliveries(sim: "Simulator", _request: web.Request) -> object:
    """Counts of events by state, and of attempts by status or failure."""
    return {**sim.deliveries.summary(), "peak_in_flight": sim.sender.peak_in_flight}


async def events(sim: "Simulator", request: web.Request) -> object:
    """Every event sent; ?state=pending|acknowledged|lost &limit= filter."""
    state = DeliveryState(request.query["state"]) if "state" in request.query else None
    matches = [event for event in sim.deliveries.events if state in {None, event.state}]
    return [asdict(event) for event in matches[-requested_limit(request) :]]


async def attempts(sim: "Simulator", request: web.Request) -> object:
    """Every request to the target; ?limit= limits the number."""
    return [attempt.as_json() for attempt in list(sim.deliveries.attempts)[-requested_limit(request) :]]


async def submit(sim: "Simulator", request: web.Request) -> object:
    """Submit hand-made elements (a JSON array) for delivery with batching and retries."""
    entered = sim.sender.submit(requested_portal(sim, request).config.portal_id, await request.json())
    return {"serials": [event.serial for event in entered]}


async def send(sim: "Simulator", request: web.Request) -> object:
    """Send the request body unchanged, at once and without retries; ?manner=forged|stale|... changes the signature."""
    portal_id, variant = (
        requested_portal(sim, request).config.portal_id,
        SIGNING_VARIANTS[request.query.get("manner", "genuine")],
    )
    return (await sim.sender.send(await request.read(), portal_id=portal_id, variant=variant)).as_json()


async def hold(sim: "Simulator", _request: web.Request) -> object:
    """Hold back all events."""
    sim.sender.hold()
    return {"held": True}


async def release(sim: "Simulator", _request: web.Request) -> object:
    """Send the held events, and all further ones."""
    sim.sender.release()
    return {"held": False}


async def set_target(sim: "Simulator", request: web.Request) -> object:
    """Set the target of deliveries: {"public_url": ..., "connect_url": ...}."""
    sim.sender.target = Target(**await request.json())
    return asdict(sim.sender.target)


async def subscriptions(sim: "Simulator", request: web.Request) -> object:
    """The subscriptions of the app."""
    return [asdict(subscription) for subscription in sim.subscriptions_of(requested_portal(sim, request)).active]


async def subscribe(sim: "Simulator", request: web.Request) -> object:
    """Add a subscription: any fields of spokes.simulator.config.Subscription."""
    subscription = Subscription(**check_fields(Subscription, await request.json()))
    return asdict(sim.subscriptions_of(requested_portal(sim, request)).add(subscription))


async def unsubscribe(sim: "Simulator", request: web.Request) -> object:
    """Remove the subscription ?id=."""
    sim.subscriptions_of(requested_portal(sim, request)).remove(int(request.query["id"]))
    return {}


async def set_app(sim: "Simulator", request: web.Request) -> object:
    """Give the app other scopes and typical subscriptions: {"scopes": [...], "events": ["contact.creation"]}."""
    portal, body = requested_portal(sim, request), await request.json()
    scopes, events = texts_member(body, "scopes"), texts_member(body, "events")
    portal.config = replace(portal.config, scopes=frozenset(scopes))
    subscriptions = sim.subscriptions_of(portal)
    for each in subscriptions.active:
        subscriptions.remove(each.subscription_id)
    added = [subscriptions.add(each) for each in chosen_subscriptions(events)] if events else []
    return {"scopes": sorted(scopes), "subscriptions": [asdict(each) for each in added]}
