"""Endpoints to request and follow erasures, and to export the data held on a person.

A person is looked up only in the portal of our access token. The audit records actor, address and reason, and the
person by object id at most.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from spokes.console.accounts.actors import ACTOR, ADDRESS
from spokes.console.api.request_schemas import ErasureBody, PersonBody
from spokes.console.api.route import not_found
from spokes.console.queries.privacy_requests import PrivacyRequestView, list_privacy_requests
from spokes.console.web.app_keys import ENGINE, REDIS, SETTINGS
from spokes.console.web.work_limits import WORK_LIMITS
from spokes.core.errors import CRMError, HttpProblem, ObjectNotFound
from spokes.crm.services import CRM
from spokes.privacy.erasure import Erasures
from spokes.privacy.persons import Person


async def get_privacy_request(request: web.Request, _: None) -> PrivacyRequestView:
    """Return one privacy request with its progress."""
    return await _find_request(request, request.match_info["id"])


async def create_erasure_request(request: web.Request, body: ErasureBody) -> PrivacyRequestView:
    """Store a request to erase a person; a worker starts it within the hour and repeats it until it is complete."""
    async with _find_person(request, body) as (erasures, person):
        created = await erasures.create_request(person, body.law)
    return await _find_request(request, created.id)


async def export_person(request: web.Request, body: PersonBody) -> dict[str, object]:
    """Return all data that HubSpot and this deployment hold on a person, with values."""
    with request.app[WORK_LIMITS].exports.running(request[ACTOR].name):
        async with _find_person(request, body) as (erasures, person):
            return await erasures.export(person)


async def _find_request(request: web.Request, request_id: str) -> PrivacyRequestView:
    for view in await list_privacy_requests(request.app[ENGINE], request[ACTOR].portals):
        if view.request.id == request_id:
            return view
    raise not_found("request")


@asynccontextmanager
async def _find_person(request: web.Request, body: PersonBody) -> AsyncIterator[tuple[Erasures, Person]]:
    """Yield the person and the `Erasures` to use; a CRM client is open until the end of the block."""
    actor, settings, redis = request[ACTOR], request.app[SETTINGS], request.app[REDIS]
    if not actor.can_see(body.portal_id):
        raise not_found("portal")
    if not settings.hubspot_access_token.get_secret_value():
        raise HttpProblem(
            503,
            "no_access_token",
            "HUBSPOT_ACCESS_TOKEN is not set in the console's process, so it cannot call HubSpot.",
        )
    crm = await CRM.open(settings, redis)
    try:
        token = await crm.check_token()
        if token is None:
            raise _hubspot_unavailable()
        if token.hub_id != body.portal_id:
            raise not_found("portal: our access token belongs to another")
        acting = Erasures(
            settings, redis, request.app[ENGINE], crm, actor=actor.name, address=request[ADDRESS], reason=body.reason
        )
        yield acting, await acting.resolve(body.portal_id, body.contact)
    except ObjectNotFound:
        raise not_found("contact") from None
    except CRMError:
        raise _hubspot_unavailable() from None
    finally:
        await crm.close()


def _hubspot_unavailable() -> HttpProblem:
    return HttpProblem(
        503, "hubspot_unavailable", "HubSpot does not answer correctly. Try again shortly.", retry_after_s=5
    )
