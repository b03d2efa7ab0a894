"""Control endpoints for OAuth: accounts, installs, and the behaviour of the OAuth server.

Each function serves one path of `spokes.simulator.control`.
"""

from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING

from aiohttp import web

from spokes.simulator.api.account import all_scopes
from spokes.simulator.config import OAuthConfig

if TYPE_CHECKING:
    from spokes.simulator.app import Simulator


async def add_portal(sim: "Simulator", request: web.Request) -> object:
    """Add an account that can install the app, with the first account's subscriptions: {"portal_id": 123}."""
    subscriptions = tuple(sim.subscriptions.active)
    portal = sim.add_portal(int((await request.json())["portal_id"]), subscriptions)
    return {"portal_id": portal.config.portal_id}


async def installs(sim: "Simulator", _request: web.Request) -> object:
    """The accounts that have the app installed, and how often each has refreshed its tokens."""
    state = sim.installs
    return {
        "portals": sorted(state.portals),
        "refreshes": state.refreshes,
        "refuses_client": state.refuses_client,
        "oauth": asdict(state.config),
    }


async def install(sim: "Simulator", request: web.Request) -> object:
    """Install the app in ?portal= without a browser, with all scopes or {"scopes": [...]}; return its tokens."""
    body = await request.json() if request.can_read_body else {}
    portal_id = sim.portals[int(request.query["portal"])].config.portal_id
    scopes = body.get("scopes") or [*sim.installs.config.required_scopes, *sorted(all_scopes())]
    return sim.installs.install(portal_id, frozenset(map(str, scopes)))._asdict() | {"scopes": sorted(scopes)}


async def uninstall(sim: "Simulator", request: web.Request) -> object:
    """Remove the app from ?portal=; with ?hub_gone=1 refreshes fail with BAD_HUB, else with BAD_REFRESH_TOKEN."""
    sim.installs.uninstall(int(request.query["portal"]), is_hub_gone=request.query.get("hub_gone") == "1")
    return {"portals": sorted(sim.installs.portals)}


async def expire(sim: "Simulator", request: web.Request) -> object:
    """Expire the access tokens of ?portal=, by default of all accounts."""
    portal_id = int(request.query["portal"]) if "portal" in request.query else None
    return {"expired": sim.installs.expire_access_tokens(portal_id)}


async def set_oauth(sim: "Simulator", request: web.Request) -> object:
    """Set {"refuses_client": true}, {"client_secret": "..."}, or fields of spokes.simulator.config.OAuthConfig."""
    body = await request.json()
    state = sim.installs
    state.refuses_client = bool(body.pop("refuses_client", state.refuses_client))
    state.client_secret = str(body.pop("client_secret", state.client_secret))
    names = {field.name for field in fields(OAuthConfig)}
    for name in body:
        if name not in names:
            raise KeyError(name)
    state.config = replace(state.config, **body)
    return {"refuses_client": state.refuses_client, "oauth": asdict(state.config)}
