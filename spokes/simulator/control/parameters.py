"""Parameters shared by the control endpoints. Pure."""

from dataclasses import fields
from typing import TYPE_CHECKING, Final

from aiohttp import web

from spokes.simulator.api.faults import Fault
from spokes.simulator.config import JournalConfig, Limits, Subscription
from spokes.simulator.errors import JsonObject
from spokes.simulator.portal import Portal

if TYPE_CHECKING:
    from spokes.simulator.app import Simulator

_DEFAULT_LIMIT: Final = 10_000


def requested_portal(sim: "Simulator", request: web.Request) -> Portal:
    """Return the account of `?portal=`, by default the first."""
    return sim.portals[int(request.query["portal"])] if "portal" in request.query else sim.portal


def requested_limit(request: web.Request) -> int:
    """Return how many of the newest entries to return."""
    return int(request.query.get("limit", _DEFAULT_LIMIT))


def check_fields(of: type[Limits | Fault | Subscription | JournalConfig], body: JsonObject) -> JsonObject:
    """Return the members of `body` after checking that all are fields of `of`.

    Raises:
        KeyError: with the first name that is not a field.
    """
    names = {field.name for field in fields(of)}
    for name in body:
        if name not in names:
            raise KeyError(name)
    return dict(body)
