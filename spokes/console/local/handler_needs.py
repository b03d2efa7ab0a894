"""What handlers need of a HubSpot app, as scopes and events: for the app that the simulator plays. Pure."""

import json
from typing import NamedTuple

from spokes.crm.scopes import required_scopes
from spokes.handler_declarations import handler_declarations
from spokes.routing import Router


class HandlerNeeds(NamedTuple):
    """Every scope, all alternatives of each included, and every event that a handler registers for."""

    scopes: tuple[str, ...]
    events: tuple[str, ...]


def handler_needs(router: Router) -> HandlerNeeds:
    """Return what the handlers of a router need."""
    scopes = {"oauth"}.union(*required_scopes(handler_declarations(router)))
    return HandlerNeeds(tuple(sorted(scopes)), tuple(sorted(router.registrations)))


def parse_needs(lines: str) -> HandlerNeeds:
    """Return what the handlers need that `spokes handlers --json` printed."""
    handlers = [json.loads(line) for line in lines.splitlines()]
    scopes = {"oauth"} | {scope for each in handlers for alternatives in each["scopes"] for scope in alternatives}
    events = {event for each in handlers for event in each["takes"]}
    return HandlerNeeds(tuple(sorted(scopes)), tuple(sorted(events)))
