"""Endpoints to read incidents. They are opened and changed on the pages and on the command line."""

from aiohttp import web

from spokes.console.accounts.actors import ACTOR
from spokes.console.api.route import not_found
from spokes.console.queries.incidents import IncidentDetails, IncidentView, incident_details, incident_views
from spokes.console.web.app_keys import ENGINE


async def get_incidents(request: web.Request, _: None) -> tuple[IncidentView, ...]:
    """Return all incidents with their 72-hour clocks, the earliest deadline first."""
    return await incident_views(request.app[ENGINE], request[ACTOR].portals)


async def get_incident(request: web.Request, _: None) -> IncidentDetails:
    """Return one incident with its notes and affected objects."""
    details = await incident_details(request.app[ENGINE], request[ACTOR].portals, request.match_info["id"])
    if details is None:
        raise not_found("incident")
    return details
