"""Whom a refusal of HubSpot's token endpoint concerns: its portal alone, or every portal of the app. Over HTTP."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr
from redis.asyncio import Redis

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core.clock import now_ms
from spokes.core.errors import CRMUnavailable, NoCredentials
from spokes.core.redis import keys
from spokes.crm.transport.client import HubSpotClient
from spokes.portals.oauth_client import OAuthClient
from spokes.portals.store import REFRESH_INTERRUPTED, PortalState
from spokes.portals.token_service import TokenService
from spokes.portals.tokens import Tokens
from tests.portals.conftest import AppWorld

PORTAL, OTHER = 700100, 700200
JsonObject = dict[str, object]


@dataclass
class TokenEndpoint:
    """Answers each portal's refresh with a response of its own, else with new tokens of that portal."""

    responses: dict[int, tuple[int, JsonObject, dict[str, str]]] = field(default_factory=dict)
    requests: list[int] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        portal_id = int(str((await request.post())["refresh_token"]).removeprefix("refresh-"))
        self.requests.append(portal_id)
        issued = {"access_token": f"new-{portal_id}", "hub_id": portal_id, "expires_in": 1800}
        status, body, headers = self.responses.get(portal_id, (200, issued, {}))
        return web.json_response(body, status=status, headers=headers)


@pytest.fixture
def endpoint() -> TokenEndpoint:
    return TokenEndpoint()


@pytest.fixture
async def service(world: AppWorld, redis: Redis, endpoint: TokenEndpoint) -> AsyncIterator[TokenService]:
    """A token service of two portals whose access tokens have expired."""
    app = web.Application()
    app.router.add_post("/oauth/{version}/token", endpoint.answer)
    async with TestServer(app) as server:
        url = str(server.make_url("/"))
        for portal_id in (PORTAL, OTHER):
            tokens = Tokens(SecretStr("old"), SecretStr(f"refresh-{portal_id}"), now_ms() - 60_000)
            await world.store.save_install(portal_id, tokens, ("oauth",))
        transport = HubSpotClient(api_url=url, token="", timeout_s=5.0)
        oauth = OAuthClient(client_id="id", client_secret=SecretStr("secret"), api_url=url, timeout_s=5.0)
        service = TokenService(world.store, oauth, redis, transport.with_token, refreshes_per_s=100)
        await service.directory.refresh()
        yield service
        await service.close()
        await transport.close()


def new_tokens(portal_id: int) -> JsonObject:
    return {"access_token": "foreign", "refresh_token": "foreign", "hub_id": portal_id, "expires_in": 1800}


WAITS = ["token_refresh_refused:700100"]
ONE_PORTAL: dict[str, tuple[int, JsonObject, dict[str, str], list[str]]] = {
    "tokens of another hub": (200, new_tokens(9), {}, WAITS),
    "tokens of another installed portal": (200, new_tokens(OTHER), {}, WAITS),
    "no tokens": (200, {}, {}, []),
    "a code that is new": (400, {"status": "SOMETHING_NEW"}, {}, WAITS),
    "an invalid request": (400, {"error": "invalid_request"}, {}, WAITS),
    "scopes": (400, {"error": "invalid_scope", "status": "BAD_SCOPES"}, {}, WAITS),
    "a code of installs": (400, {"error": "invalid_grant", "status": "BAD_AUTH_CODE"}, {}, WAITS),
    "403 with a new code": (403, {"error": "forbidden"}, {}, WAITS),
    "a page of a proxy": (403, {}, {}, []),
    "404": (404, {}, {}, []),
    "a locked portal": (423, {}, {"Retry-After": "86400"}, []),
    "a portal that moves": (477, {}, {"Retry-After": "86400"}, []),
    "500": (500, {"error": "invalid_client"}, {"Retry-After": "600"}, []),
    "503 with a wait": (503, {}, {"Retry-After": "600"}, []),
    "504": (504, {}, {}, []),
}


@pytest.mark.parametrize("name", ONE_PORTAL)
async def test_refusal_of_one_portal_concerns_that_portal_only(
    world: AppWorld, service: TokenService, endpoint: TokenEndpoint, name: str
) -> None:
    status, body, headers, alerts = ONE_PORTAL[name]
    endpoint.responses[PORTAL] = (status, body, headers)
    for _ in range(2):
        with pytest.raises(CRMUnavailable):
            await service.client(PORTAL)
    await service.client(OTHER)
    assert endpoint.requests == [PORTAL, OTHER]  # the refused one waits, the other does not
    assert [(await world.portal(portal_id)).state for portal_id in (PORTAL, OTHER)] == [PortalState.INSTALLED] * 2
    assert await AlertEpisodes(world.redis).active("") == alerts


@pytest.mark.parametrize("body", [
    {"error": "invalid_grant", "status": "BAD_REFRESH_TOKEN"}, {"error": "access_denied", "status": "BAD_HUB"},
    {"error": "invalid_grant"}, {"status": "error", "error": "x", "message": "missing or unknown hub id"},
])  # fmt: skip
async def test_revoked_portal_ends_its_own_install_only(
    world: AppWorld, service: TokenService, endpoint: TokenEndpoint, body: JsonObject
) -> None:
    endpoint.responses[PORTAL] = (400, body, {})
    with pytest.raises(NoCredentials):
        await service.client(PORTAL)
    await service.client(OTHER)
    assert (await world.portal(PORTAL)).state is PortalState.NEEDS_REINSTALL
    assert await AlertEpisodes(world.redis).active("") == [f"needs_reinstall:{PORTAL}"]


@pytest.mark.parametrize(("status", "body", "headers", "alerts"), [
    (400, {"error": "invalid_client"}, {}, ["oauth_app_refused"]),
    (401, {"status": "BAD_CLIENT_SECRET"}, {}, ["oauth_app_refused"]),
    (400, {"error": "unauthorized_client"}, {}, ["oauth_app_refused"]),
    (400, {"error": "unsupported_grant_type", "status": "BAD_GRANT_TYPE"}, {}, ["oauth_app_refused"]),
    (429, {}, {"Retry-After": "30"}, []),
])  # fmt: skip
async def test_refusal_of_the_app_holds_up_every_portal_and_ends_no_install(
    world: AppWorld, service: TokenService, endpoint: TokenEndpoint, status: int, body: JsonObject,
    headers: dict[str, str], alerts: list[str],
) -> None:  # fmt: skip
    endpoint.responses[PORTAL] = (status, body, headers)
    for portal_id in (PORTAL, OTHER):
        with pytest.raises(CRMUnavailable):
            await service.client(portal_id)
    assert endpoint.requests == [PORTAL]
    assert [(await world.portal(portal_id)).state for portal_id in (PORTAL, OTHER)] == [PortalState.INSTALLED] * 2
    assert await AlertEpisodes(world.redis).active("") == alerts


async def test_tokens_of_another_hub_are_not_stored_and_the_next_answer_ends_the_alert(
    world: AppWorld, service: TokenService, endpoint: TokenEndpoint
) -> None:
    endpoint.responses[PORTAL] = (200, new_tokens(OTHER), {})
    with pytest.raises(CRMUnavailable):
        await service.client(PORTAL)
    tokens = await world.store.tokens(PORTAL)
    assert tokens is not None
    assert tokens.access_token.get_secret_value() == "old"
    endpoint.responses.clear()
    await world.redis.delete(keys.refresh_backoff(PORTAL))  # its time is over
    await service.client(PORTAL)
    assert await AlertEpisodes(world.redis).active("") == []


async def test_portal_whose_token_went_to_another_hub_did_not_remove_the_app(
    world: AppWorld, service: TokenService, endpoint: TokenEndpoint
) -> None:
    endpoint.responses[PORTAL] = (200, new_tokens(9), {})
    with pytest.raises(CRMUnavailable):
        await service.client(PORTAL)
    endpoint.responses[PORTAL] = (400, {"error": "invalid_grant", "status": "BAD_REFRESH_TOKEN"}, {})
    await world.redis.delete(keys.refresh_backoff(PORTAL))  # its time is over
    with pytest.raises(NoCredentials):
        await service.client(PORTAL)
    assert (await world.portal(PORTAL)).reason == REFRESH_INTERRUPTED
    assert await AlertEpisodes(world.redis).active("") == [f"needs_reinstall:{PORTAL}"]


async def test_refused_portal_waits_longer_each_time(
    world: AppWorld, service: TokenService, endpoint: TokenEndpoint
) -> None:
    endpoint.responses[PORTAL] = (400, {"status": "SOMETHING_NEW"}, {})
    waits = []
    for _ in range(4):
        await world.redis.delete(keys.refresh_backoff(PORTAL))
        with pytest.raises(CRMUnavailable):
            await service.client(PORTAL)
        waits.append(await world.redis.pttl(keys.refresh_backoff(PORTAL)) / 1000)
    assert waits == sorted(waits)
    assert 80 < waits[-1] < 160
