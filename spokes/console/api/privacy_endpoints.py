"""What a privacy officer's program does: ask for an erasure, follow it, show what is held on somebody.

Rule: a person is looked for in the portal that our access token belongs to, and in no other; who asked from where and
why stands in the audit, the person only as far as the audit may name anybody.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from spokes.console.accounts.actors import ACTOR, ADDRESS
from spokes.console.api.request_schemas import Erasing, OfPerson
from spokes.console.api.route import missing
from spokes.console.queries.privacy_requests import Asked, privacy_requests
from spokes.console.web.app_keys import ENGINE, REDIS, SETTINGS
from spokes.core.errors import CRMError, ObjectNotFound, Problem
from spokes.crm.services import CRM
from spokes.privacy.erasure import Erasures
from spokes.privacy.persons import Person


async def see_request(request: web.Request, _: None) -> Asked:
    """Return one request, and how far it has come."""
    return await _asked(request, request.match_info["id"])


async def ask_for_erasure(request: web.Request, body: Erasing) -> Asked:
    """Keep a request to erase somebody; a worker carries it out within the hour, and goes on until all is done."""
    async with _person(request, body) as (erasures, person):
        kept = await erasures.request(person, body.law)
    return await _asked(request, kept.id)


async def show_person(request: web.Request, body: OfPerson) -> dict[str, object]:
    """Return everything that HubSpot and we hold on somebody, with its values."""
    async with _person(request, body) as (erasures, person):
        return await erasures.export(person)


async def _asked(request: web.Request, name: str) -> Asked:
    for asked in await privacy_requests(request.app[ENGINE], request[ACTOR].portals):
        if asked.request.id == name:
            return asked
    raise missing("request")


@asynccontextmanager
async def _person(request: web.Request, body: OfPerson) -> AsyncIterator[tuple[Erasures, Person]]:
    """Find whom it is about, and what acts on them; HubSpot's client is loaded for as long as somebody asks."""
    actor, settings, redis = request[ACTOR], request.app[SETTINGS], request.app[REDIS]
    if not actor.sees(body.portal_id):
        raise missing("portal")
    if not settings.hubspot_access_token.get_secret_value():
        raise Problem(503, "no_access_token", "HUBSPOT_ACCESS_TOKEN is not set here, so HubSpot cannot be asked.")
    crm = await CRM.open(settings, redis)
    try:
        token = await crm.check_token()
        if token is None:
            raise _away()
        if token.hub_id != body.portal_id:
            raise missing("portal: our access token belongs to another")
        acting = Erasures(
            settings, redis, request.app[ENGINE], crm, actor=actor.name, address=request[ADDRESS], reason=body.reason
        )
        yield acting, await acting.find(body.portal_id, body.contact)
    except ObjectNotFound:
        raise missing("contact") from None
    except CRMError:
        raise _away() from None
    finally:
        await crm.close()


def _away() -> Problem:
    return Problem(
        503, "hubspot_unavailable", "HubSpot does not answer as it should; try again shortly.", retry_after_s=5
    )
