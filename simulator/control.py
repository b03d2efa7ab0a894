"""The simulator's own surface under /_sim/, for another process to drive it and to read the truth.

Rule: HubSpot has none of this; every answer is JSON, `?portal=` picks an account and the first one is meant otherwise.
GET /_sim/ lists what there is.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, fields, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeAlias

import orjson
from aiohttp import web

from simulator.config import Latency, Limits, Subscription, Target
from simulator.deliveries import SentEvent, State
from simulator.edits import apply_edit
from simulator.errors import HubSpotError, JsonObject
from simulator.faults import Body, Fault
from simulator.portal import Portal, TokenState
from simulator.records import shown_whole
from simulator.sender import NoTarget
from simulator.signing import MANNERS, Manner

if TYPE_CHECKING:
    from simulator.app import Simulator

_Act: TypeAlias = Callable[["Simulator", web.Request], Awaitable[object]]
_MOST_SHOWN: Final = 10_000


async def _overview(sim: "Simulator", _request: web.Request) -> object:
    """What this simulator is, how it stands, and what else can be asked."""
    target = sim.sender.target
    return {
        "url": sim.url,
        "seed": sim.config.seed,
        "portals": list(sim.portals),
        "target": None if target is None else asdict(target),
        "requests": sim.requests.total,
        "deliveries": sim.deliveries.summary(),
        "endpoints": {f"{m} {path}": (act.__doc__ or "").splitlines()[0] for (m, path), act in _ACTS.items()},
    }


async def _objects(sim: "Simulator", request: web.Request) -> object:
    """Every object of the CRM as it is, archived ones too; ?type= narrows it."""
    crm = _portal(sim, request).crm
    type_id = crm.types.resolve(request.query["type"]).type_id if "type" in request.query else None
    records = [record for record in crm.dump() if type_id in {None, record.type.type_id}]
    return [{"type": record.type.plural, "type_id": record.type.type_id, **shown_whole(record)} for record in records]


async def _associations(sim: "Simulator", request: web.Request) -> object:
    """Every association, in both its directions."""
    dump = _portal(sim, request).crm.associations.dump()
    return [
        {"from": from_._asdict(), "to": to._asdict(), "types": [spec._asdict() for spec in specs]}
        for from_, to, specs in dump
    ]


async def _edit(sim: "Simulator", request: web.Request) -> object:
    """Do what users do: a list of edits, or one (see simulator.edits)."""
    body, portal = await request.json(), _portal(sim, request)
    return [apply_edit(portal, edit) for edit in body] if isinstance(body, list) else apply_edit(portal, body)


async def _requests(sim: "Simulator", request: web.Request) -> object:
    """The log of CRM calls; ?method= &path=(pattern) &status= &object_id= &limit= narrow it."""
    query = request.query
    status = int(query["status"]) if "status" in query else None
    found = sim.requests.where(
        method=query.get("method"), path=query.get("path"), status=status, object_id=query.get("object_id")
    )
    return [call.as_json() for call in found[-_limit(request) :]]


async def _request_counts(sim: "Simulator", _request: web.Request) -> object:
    """How many CRM calls ended with which status."""
    return {str(status): count for status, count in sim.requests.by_status().items()}


async def _deliveries(sim: "Simulator", _request: web.Request) -> object:
    """Counts of events by state and of attempts by end."""
    return {**sim.deliveries.summary(), "peak_in_flight": sim.sender.peak_in_flight}


async def _events(sim: "Simulator", request: web.Request) -> object:
    """The truth about every event sent; ?state=pending|acknowledged|lost &limit= narrow it."""
    state = State(request.query["state"]) if "state" in request.query else None
    found = [event for event in sim.deliveries.events if state in {None, event.state}]
    return [_event_shown(event) for event in found[-_limit(request) :]]


async def _attempts(sim: "Simulator", request: web.Request) -> object:
    """The truth about every request to the target; ?limit= narrows it."""
    return [attempt.as_json() for attempt in list(sim.deliveries.attempts)[-_limit(request) :]]


async def _submit(sim: "Simulator", request: web.Request) -> object:
    """Put hand-made elements on their way, batched and retried: a JSON array."""
    entered = sim.sender.submit(_portal(sim, request).config.portal_id, await request.json())
    return {"serials": [event.serial for event in entered]}


async def _send(sim: "Simulator", request: web.Request) -> object:
    """Send the body as it is, at once and once; ?manner=forged|stale|... signs it otherwise."""
    portal_id, manner = _portal(sim, request).config.portal_id, _manner(request.query)
    return (await sim.sender.send(await request.read(), portal_id=portal_id, manner=manner)).as_json()


async def _hold(sim: "Simulator", _request: web.Request) -> object:
    """Let events gather."""
    sim.sender.hold()
    return {"held": True}


async def _release(sim: "Simulator", _request: web.Request) -> object:
    """Send what gathered."""
    sim.sender.release()
    return {"held": False}


async def _set_target(sim: "Simulator", request: web.Request) -> object:
    """Say where deliveries go: {"public_url": ..., "connect_url": ...}."""
    sim.sender.target = Target(**await request.json())
    return asdict(sim.sender.target)


async def _limits(sim: "Simulator", request: web.Request) -> object:
    """The limits in force, and the truth: arrivals, 429s, peaks in any window."""
    limiter = _portal(sim, request).limiter
    return {"limits": asdict(limiter.limits), "used_today": limiter.used_today(), "truth": limiter.truth.as_json()}


async def _set_limits(sim: "Simulator", request: web.Request) -> object:
    """Change some limits: any fields of simulator.config.Limits."""
    limiter = _portal(sim, request).limiter
    limiter.limits = replace(limiter.limits, **_known(Limits, await request.json()))
    return asdict(limiter.limits)


async def _faults(sim: "Simulator", _request: web.Request) -> object:
    """The faults at work and how often they struck."""
    return [{**asdict(rule), "fault": _fault_shown(rule.fault)} for rule in sim.faults.active]


async def _add_fault(sim: "Simulator", request: web.Request) -> object:
    """Put a fault to work: any fields of simulator.faults.Fault."""
    given = _known(Fault, await request.json())
    given["nth"] = frozenset(given.get("nth", ()))
    given["body"] = Body(given.get("body", Body.HUBSPOT))
    given["latency"] = Latency(**given["latency"]) if given.get("latency") else None
    return {"number": sim.faults.add(Fault(**given))}


async def _clear_faults(sim: "Simulator", request: web.Request) -> object:
    """End all faults, or ?number= one."""
    if "number" in request.query:
        sim.faults.remove(int(request.query["number"]))
    else:
        sim.faults.clear()
    return {"active": len(sim.faults.active)}


async def _subscriptions(sim: "Simulator", request: web.Request) -> object:
    """The subscriptions of the app."""
    return [asdict(one) for one in sim.subscriptions_of(_portal(sim, request)).active]


async def _subscribe(sim: "Simulator", request: web.Request) -> object:
    """Subscribe: any fields of simulator.config.Subscription."""
    subscription = Subscription(**_known(Subscription, await request.json()))
    return asdict(sim.subscriptions_of(_portal(sim, request)).add(subscription))


async def _unsubscribe(sim: "Simulator", request: web.Request) -> object:
    """End the subscription ?id=."""
    sim.subscriptions_of(_portal(sim, request)).remove(int(request.query["id"]))
    return {}


async def _set_token(sim: "Simulator", request: web.Request) -> object:
    """Make the token {"state": "valid" | "revoked" | "expired"}."""
    portal = _portal(sim, request)
    portal.token_state = TokenState((await request.json())["state"])
    return {"state": portal.token_state}


async def _reset(sim: "Simulator", _request: web.Request) -> object:
    """Empty every CRM, log and queue."""
    sim.reset()
    return {}


_ACTS: Final[Mapping[tuple[str, str], _Act]] = {
    ("GET", "/_sim/"): _overview,
    ("GET", "/_sim/objects"): _objects,
    ("GET", "/_sim/associations"): _associations,
    ("POST", "/_sim/edits"): _edit,
    ("GET", "/_sim/requests"): _requests,
    ("GET", "/_sim/requests/counts"): _request_counts,
    ("GET", "/_sim/deliveries"): _deliveries,
    ("GET", "/_sim/deliveries/events"): _events,
    ("GET", "/_sim/deliveries/attempts"): _attempts,
    ("POST", "/_sim/deliveries/submit"): _submit,
    ("POST", "/_sim/deliveries/send"): _send,
    ("POST", "/_sim/deliveries/hold"): _hold,
    ("POST", "/_sim/deliveries/release"): _release,
    ("PUT", "/_sim/target"): _set_target,
    ("GET", "/_sim/limits"): _limits,
    ("PUT", "/_sim/limits"): _set_limits,
    ("GET", "/_sim/faults"): _faults,
    ("POST", "/_sim/faults"): _add_fault,
    ("DELETE", "/_sim/faults"): _clear_faults,
    ("GET", "/_sim/subscriptions"): _subscriptions,
    ("POST", "/_sim/subscriptions"): _subscribe,
    ("DELETE", "/_sim/subscriptions"): _unsubscribe,
    ("PUT", "/_sim/token"): _set_token,
    ("POST", "/_sim/reset"): _reset,
}


def control_routes(sim: "Simulator") -> list[web.RouteDef]:
    """The routes of the control surface."""
    return [web.route(method, path, _handler(sim, act)) for (method, path), act in _ACTS.items()]


def _handler(sim: "Simulator", act: _Act) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        try:
            return _json(await act(sim, request))
        except HubSpotError as error:
            return _json(error.entry(), error.status)
        except (KeyError, TypeError, ValueError, NoTarget) as error:
            message = f"{type(error).__name__}: {error}"
            return _json({"status": "error", "message": message}, HTTPStatus.BAD_REQUEST)

    return handle


def _json(body: object, status: int = HTTPStatus.OK) -> web.Response:
    options = orjson.OPT_NON_STR_KEYS
    return web.Response(body=orjson.dumps(body, option=options), status=status, content_type="application/json")


def _portal(sim: "Simulator", request: web.Request) -> Portal:
    return sim.portals[int(request.query["portal"])] if "portal" in request.query else sim.portal


def _limit(request: web.Request) -> int:
    return int(request.query.get("limit", _MOST_SHOWN))


def _manner(query: Mapping[str, str]) -> Manner:
    return MANNERS[query.get("manner", "genuine")]


def _known(of: type[Limits | Fault | Subscription], body: JsonObject) -> JsonObject:
    """The members of `body`, all of which must be fields.

    Raises:
        KeyError: naming the first that is none.
    """
    names = {one.name for one in fields(of)}
    for name in body:
        if name not in names:
            raise KeyError(name)
    return dict(body)


def _event_shown(event: SentEvent) -> JsonObject:
    return asdict(event)


def _fault_shown(fault: Fault) -> JsonObject:
    return {**asdict(fault), "nth": sorted(fault.nth)}
