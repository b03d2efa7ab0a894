"""Privacy endpoints over real HTTP, with a simulated HubSpot, a real Valkey and a real store."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson
import pytest
from aiohttp.test_utils import TestClient, TestServer
from redis.asyncio import Redis

from spokes.audit.sql import schema
from spokes.console.accounts.api_tokens import ApiTokens
from spokes.console.accounts.policy import Role
from spokes.console.api.route import PREFIX
from spokes.console.app import create_app
from spokes.console.web.app_keys import ENGINE, SETTINGS
from spokes.core.settings import Settings
from spokes.crm.services import CRM
from spokes.privacy.erasure import Erasures
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from spokes.simulator.portal import TokenState
from tests.support.console_visitor import KEY, audit_store, running_console
from tests.support.events import recorded

PORTAL = 50112233
EMAIL = "ada@example.com"
WHY = {"reason": "she wrote to us on Monday"}


@pytest.fixture
async def client(environ: dict[str, str], redis: Redis, hubspot: Simulator) -> AsyncIterator[TestClient]:
    async with audit_store(environ) as engine:
        await schema.upgrade(engine)
    async with running_console(environ, HUBSPOT_API_URL=hubspot.url) as client:
        yield client


@pytest.fixture
def contact_id(hubspot: Simulator) -> str:
    return hubspot.crm.create(hubspot.crm.types.resolve("contacts"), {"email": EMAIL}, USER).id


async def post(
    client: TestClient, path: str, body: Mapping[str, object], *roles: Role, portals: list[int] | None = None
) -> tuple[int, Any]:
    token = (
        ApiTokens.from_settings(client.server.app[SETTINGS])
        .mint("officer", roles or [Role.PRIVACY_OFFICER], portals)
        .token
    )
    headers = {"Authorization": f"Bearer {token}"}
    async with client.post(PREFIX + path, json=body, headers=headers) as response:
        return response.status, orjson.loads(await response.read())


@pytest.mark.parametrize("identifier", ["id", "address"])
async def test_requested_erasure_is_completed_by_a_worker(
    client: TestClient, redis: Redis, hubspot: Simulator, contact_id: str, identifier: str
) -> None:
    body = {"portal_id": PORTAL, "contact": contact_id if identifier == "id" else EMAIL, "law": "ccpa", **WHY}
    status, view = await post(client, "/privacy-requests", body)
    assert (status, view["request"]["state"], view["request"]["object_ids"]) == (200, "open", [contact_id])
    assert view["due_in_days"] >= 44
    settings = client.server.app[SETTINGS]
    crm = await CRM.open(settings, redis)
    await Erasures(settings, redis, client.server.app[ENGINE], crm, actor="spokes").resume()  # as the workers do
    await crm.close()
    assert len(hubspot.requests.find(path="*/gdpr-delete")) == 1
    headers = {
        "Authorization": f"Bearer {ApiTokens.from_settings(settings).mint('officer', [Role.PRIVACY_OFFICER]).token}"
    }
    async with client.get(f"{PREFIX}/privacy-requests/{view['request']['id']}", headers=headers) as response:
        completed = orjson.loads(await response.read())
    assert (completed["request"]["state"], completed["request"]["object_ids"]) == ("done", [])


async def test_erasure_request_is_audited_with_actor_address_and_reason(
    client: TestClient, redis: Redis, contact_id: str
) -> None:
    await post(client, "/privacy-requests", {"portal_id": PORTAL, "contact": EMAIL, **WHY})
    [record] = await recorded(redis)
    assert (record.action, record.actor, record.reason) == ("privacy.requested", "officer", WHY["reason"])
    assert record.detail["address"] == "127.0.0.1"
    assert EMAIL not in str(record)


async def test_export_of_a_person_is_returned_and_audited(client: TestClient, redis: Redis, contact_id: str) -> None:
    status, document = await post(client, "/privacy-exports", {"portal_id": PORTAL, "contact": EMAIL, **WHY})
    assert (status, document["hubspot"]["contact"]["properties"]["email"]) == (200, EMAIL)
    [record] = await recorded(redis)
    assert (record.action, record.reason, record.detail["address"]) == (
        "privacy.exported", WHY["reason"], "127.0.0.1",
    )  # fmt: skip


@pytest.mark.parametrize("path", ["/privacy-requests", "/privacy-exports"])
@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
async def test_other_roles_are_refused(
    client: TestClient, redis: Redis, contact_id: str, path: str, role: Role
) -> None:
    assert (await post(client, path, {"portal_id": PORTAL, "contact": contact_id, **WHY}, role))[0] == 403
    assert await recorded(redis) == []


@pytest.mark.parametrize("path", ["/privacy-requests", "/privacy-exports"])
async def test_person_of_a_portal_that_actor_or_access_token_cannot_see_is_404(
    client: TestClient, redis: Redis, hubspot: Simulator, contact_id: str, path: str
) -> None:
    body = {"contact": contact_id, **WHY}
    assert (await post(client, path, {"portal_id": PORTAL, **body}, portals=[7]))[0] == 404
    assert (await post(client, path, {"portal_id": 7, **body}))[0] == 404  # another portal's contact of that id
    assert await recorded(redis) == []


@pytest.mark.parametrize("path", ["/privacy-requests", "/privacy-exports"])
@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"portal_id": PORTAL, "contact": "nobody@example.com", **WHY}, 404),
        ({"portal_id": PORTAL, "contact": EMAIL}, 422),
        ({"portal_id": PORTAL, "contact": EMAIL, "reason": " "}, 422),
        ({"portal_id": PORTAL, "contact": "../51", **WHY}, 422),
        ({"contact": EMAIL, **WHY}, 422),
    ],
    ids=["nobody's address", "no reason", "a blank reason", "no id", "no portal"],
)
async def test_request_without_a_person_or_reason_is_refused(
    client: TestClient, redis: Redis, contact_id: str, path: str, body: dict[str, object], status: int
) -> None:
    actual, problem = await post(client, path, body)
    assert actual == status
    assert "example.com" not in problem["detail"]
    assert await recorded(redis) == []


async def test_privacy_request_with_a_refused_hubspot_token_is_503(
    client: TestClient, redis: Redis, hubspot: Simulator
) -> None:
    hubspot.portal.token_state = TokenState.REVOKED
    status, problem = await post(client, "/privacy-requests", {"portal_id": PORTAL, "contact": "51", **WHY})
    assert (status, problem["type"]) == (503, "urn:spokes:problem:hubspot_unavailable")
    assert await recorded(redis) == []


async def test_privacy_request_without_hubspot_is_503(environ: dict[str, str], redis: Redis) -> None:
    unreachable = {"HUBSPOT_API_URL": "http://127.0.0.1:9", "CONSOLE_KEY": KEY}
    async with TestClient(TestServer(create_app(Settings.from_env({**environ, **unreachable})))) as client:
        status, problem = await post(client, "/privacy-requests", {"portal_id": PORTAL, "contact": "51", **WHY})
    assert (status, problem["type"]) == (503, "urn:spokes:problem:hubspot_unavailable")
    assert await recorded(redis) == []
