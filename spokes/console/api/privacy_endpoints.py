"""What a privacy officer's program does: ask for an erasure, follow it, show what is held on somebody.

Rule: a person is looked for in the portal that our access token belongs to, and in no other; who asked from where and
why stands in the audit, the person only as far as the audit may name anybody.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from spokes.console.accounts.actors import ACTOR, ADDRESS
from spokes.console.api.request_schemas import ErasureBody, PersonBody
from spokes.console.api.route import not_found
from spokes.console.queries.privacy_requests import PrivacyRequestView, list_privacy_requests
from spokes.console.web.app_keys import ENGINE, REDIS, SETTINGS
from spokes.core.errors import CRMError, HttpProblem, ObjectNotFound
from spokes.crm.services import CRM
from spokes.privacy.erasure import Erasures
from spokes.privacy.persons import Person


async def get_privacy_request(request: web.Request, _: None) -> PrivacyRequestView:
    """Return one request, and how far it has come."""
    return await _find_request(request, request.match_info["id"])


async def create_erasure_request(request: web.Request, body: ErasureBody) -> PrivacyRequestView:
    """Keep a request to erase somebody; a worker carries it out within the hour, and goes on until all is done."""
    async with _find_person(request, body) as (erasures, person):
        kept = await erasures.create_request(person, body.law)
    return await _find_request(request, kept.id)


async def export_person(request: web.Request, body: PersonBody) -> dict[str, object]:
    """Return everything that HubSpot and we hold on somebody, with its values."""
    async with _find_person(request, body) as (erasures, person):
        return await erasures.export(person)


async def _find_request(request: web.Request, request_id: str) -> PrivacyRequestView:
    for asked in await list_privacy_requests(request.app[ENGINE], request[ACTOR].portals):
        if asked.request.id == request_id:
            return asked
    raise not_found("request")


@asynccontextmanager
async def _find_person(request: web.Request, body: PersonBody) -> AsyncIterator[tuple[Erasures, Person]]:
    """Find whom it is about, and what acts on them; HubSpot's client is loaded for as long as somebody asks."""
    actor, settings, redis = request[ACTOR], request.app[SETTINGS], request.app[REDIS]
    if not actor.can_see(body.portal_id):
        raise not_found("portal")
    if not settings.hubspot_access_token.get_secret_value():
        raise HttpProblem(503, "no_access_token", "HUBSPOT_ACCESS_TOKEN is not set here, so HubSpot cannot be asked.")
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
        503, "hubspot_unavailable", "HubSpot does not answer as it should; try again shortly.", retry_after_s=5
    )
