"""What every request to the control surface may say about itself. Rule: pure."""

from dataclasses import fields
from typing import TYPE_CHECKING, Final

from aiohttp import web

from spokes.simulator.api.faults import Fault
from spokes.simulator.config import Limits, Subscription
from spokes.simulator.errors import JsonObject
from spokes.simulator.portal import Portal

if TYPE_CHECKING:
    from spokes.simulator.app import Simulator

_DEFAULT_LIMIT: Final = 10_000


def requested_portal(sim: "Simulator", request: web.Request) -> Portal:
    """The account that `?portal=` names, else the first."""
    return sim.portals[int(request.query["portal"])] if "portal" in request.query else sim.portal


def requested_limit(request: web.Request) -> int:
    """How many of the newest to show."""
    return int(request.query.get("limit", _DEFAULT_LIMIT))


def check_fields(of: type[Limits | Fault | Subscription], body: JsonObject) -> JsonObject:
    """The members of `body`, all of which must be fields.

    Raises:
        KeyError: naming the first that is none.
    """
    names = {one.name for one in fields(of)}
    for name in body:
        if name not in names:
            raise KeyError(name)
    return dict(body)
