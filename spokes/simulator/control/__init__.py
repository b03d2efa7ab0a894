"""Control endpoints under /_sim/, by which other processes drive the simulator and read its state.

HubSpot has no such endpoints. Every response is JSON; `?portal=` selects an account, by default the first.
GET /_sim/ lists all endpoints.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeAlias

from aiohttp import web

from spokes.simulator.api.json_endpoint import json_response
from spokes.simulator.control import crm as control_crm
from spokes.simulator.control import journal as control_journal
from spokes.simulator.control import oauth as control_oauth
from spokes.simulator.control import webhooks as control_sending
from spokes.simulator.errors import HubSpotError
from spokes.simulator.webhooks.sender import NoTarget

if TYPE_CHECKING:
    from spokes.simulator.app import Simulator

_ControlFunction: TypeAlias = Callable[["Simulator", web.Request], Awaitable[object]]


async def _overview(sim: "Simulator", _request: web.Request) -> object:
    """The simulator's configuration, its counts, and all control endpoints."""
    target = sim.sender.target
    return {
        "url": sim.url,
        "seed": sim.config.seed,
        "portals": list(sim.portals),
        "target": None if target is None else asdict(target),
        "requests": sim.requests.total,
        "deliveries": sim.deliveries.summary(),
        "endpoints": {
            f"{m} {path}": (function.__doc__ or "").splitlines()[0] for (m, path), function in _ROUTES.items()
        },
    }


async def _reset(sim: "Simulator", _request: web.Request) -> object:
    """Empty every CRM, log and queue."""
    sim.reset()
    return {}


_ROUTES: Final[Mapping[tuple[str, str], _ControlFunction]] = {
    ("GET", "/_sim/"): _overview,
    ("GET", "/_sim/objects"): control_crm.objects,
    ("GET", "/_sim/associations"): control_crm.associations,
    ("POST", "/_sim/edits"): control_crm.edit,
    ("POST", "/_sim/properties"): control_crm.create_property,
    ("GET", "/_sim/requests"): control_crm.requests,
    ("GET", "/_sim/requests/counts"): control_crm.request_counts,
    ("GET", "/_sim/deliveries"): control_sending.deliveries,
    ("GET", "/_sim/deliveries/events"): control_sending.events,
    ("GET", "/_sim/deliveries/attempts"): control_sending.attempts,
    ("POST", "/_sim/deliveries/submit"): control_sending.submit,
    ("POST", "/_sim/deliveries/send"): control_sending.send,
    ("POST", "/_sim/deliveries/hold"): control_sending.hold,
    ("POST", "/_sim/deliveries/release"): control_sending.release,
    ("PUT", "/_sim/target"): control_sending.set_target,
    ("GET", "/_sim/limits"): control_crm.limits,
    ("PUT", "/_sim/limits"): control_crm.set_limits,
    ("GET", "/_sim/faults"): control_crm.faults,
    ("POST", "/_sim/faults"): control_crm.add_fault,
    ("DELETE", "/_sim/faults"): control_crm.clear_faults,
    ("GET", "/_sim/subscriptions"): control_sending.subscriptions,
    ("POST", "/_sim/subscriptions"): control_sending.subscribe,
    ("DELETE", "/_sim/subscriptions"): control_sending.unsubscribe,
    ("PUT", "/_sim/token"): control_crm.set_token,
    ("PUT", "/_sim/app"): control_sending.set_app,
    ("POST", "/_sim/portals"): control_oauth.add_portal,
    ("GET", "/_sim/installs"): control_oauth.installs,
    ("POST", "/_sim/installs"): control_oauth.install,
    ("DELETE", "/_sim/installs"): control_oauth.uninstall,
    ("POST", "/_sim/installs/expire"): control_oauth.expire,
    ("PUT", "/_sim/oauth"): control_oauth.set_oauth,
    ("GET", "/_sim/journal"): control_journal.journal,
    ("POST", "/_sim/journal/entries"): control_journal.add_entries,
    ("POST", "/_sim/journal/publish"): control_journal.publish,
    ("POST", "/_sim/journal/forget"): control_journal.forget,
    ("PUT", "/_sim/journal"): control_journal.set_journal,
    ("POST", "/_sim/reset"): _reset,
}


def control_routes(sim: "Simulator") -> list[web.RouteDef]:
    """Return the routes of the control endpoints."""
    return [web.route(method, path, _handler(sim, function)) for (method, path), function in _ROUTES.items()]


def _handler(sim: "Simulator", function: _ControlFunction) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        try:
            return json_response(await function(sim, request))
        except HubSpotError as error:
            return json_response(error.entry(), error.status)
        except (KeyError, TypeError, ValueError, NoTarget) as error:
            message = f"{type(error).__name__}: {error}"
            return json_response({"status": "error", "message": message}, HTTPStatus.BAD_REQUEST)

    return handle
