"""Tokens, scopes and account endpoints, over real HTTP."""

from collections.abc import AsyncIterator

import pytest

from spokes.simulator.app import Simulator
from spokes.simulator.config import PortalConfig, SimulatorConfig
from spokes.simulator.portal import TokenState
from tests.support.hubspot.probe import Caller

READER = PortalConfig(
    portal_id=2, token="reader", scopes=frozenset({"oauth", "crm.objects.contacts.read"}), time_zone="Asia/Tokyo"
)


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorConfig(portals=(PortalConfig(portal_id=1), READER))) as running:
        yield running


@pytest.mark.parametrize("token", ["", "nonsense"])
async def test_missing_or_unknown_token_is_a_401(sim: Simulator, token: str) -> None:
    async with Caller(sim.url, token) as call:
        reply = await call("GET", "/crm/v3/objects/contacts")
    assert (reply.status, reply.json["category"]) == (401, "INVALID_AUTHENTICATION")


@pytest.mark.parametrize(
    ("state", "category"),
    [(TokenState.REVOKED, "INVALID_AUTHENTICATION"), (TokenState.EXPIRED, "EXPIRED_AUTHENTICATION")],
)
async def test_revoked_or_expired_token_is_a_401(sim: Simulator, state: TokenState, category: str) -> None:
    sim.portal.token_state = state
    async with Caller(sim.url) as call:
        reply = await call("GET", "/crm/v3/objects/contacts")
    assert (reply.status, reply.json["category"]) == (401, category)


async def test_missing_scope_is_a_403_that_names_it(sim: Simulator) -> None:
    async with Caller(sim.url, "reader") as call:
        assert (await call("GET", "/crm/v3/objects/contacts")).status == 200
        reply = await call("POST", "/crm/v3/objects/contacts", {"properties": {}})
    assert (reply.status, reply.json["category"]) == (403, "MISSING_SCOPES")
    assert reply.json["errors"][0]["context"]["requiredGranularScopes"] == ["crm.objects.contacts.write"]


async def test_tickets_require_the_scope_tickets(sim: Simulator) -> None:
    async with Caller(sim.url, "reader") as call:
        reply = await call("GET", "/crm/v3/objects/tickets")
    assert reply.json["errors"][0]["context"]["requiredGranularScopes"] == ["tickets"]


async def test_portals_share_no_records(sim: Simulator) -> None:
    async with Caller(sim.url) as call, Caller(sim.url, "reader") as other:
        id_ = (await call("POST", "/crm/v3/objects/contacts", {"properties": {}})).json["id"]
        assert (await other("GET", f"/crm/v3/objects/contacts/{id_}")).status == 404


async def test_token_info_returns_portal_app_and_scopes(sim: Simulator) -> None:
    async with Caller(sim.url, "") as call:
        reply = await call("POST", "/oauth/v2/private-apps/get/access-token-info", {"tokenKey": "reader"})
    assert (reply.json["hubId"], reply.json["scopes"]) == (2, ["crm.objects.contacts.read", "oauth"])


@pytest.mark.parametrize("root", ["/account-info/v3", "/account-info/2026-09"])
async def test_details_return_portal_and_time_zone(sim: Simulator, root: str) -> None:
    async with Caller(sim.url, "reader") as call:
        reply = await call("GET", f"{root}/details")
    assert (reply.json["portalId"], reply.json["timeZone"], reply.json["utcOffset"]) == (2, "Asia/Tokyo", "+09:00")


async def test_daily_usage_counts_the_calls_of_the_day(sim: Simulator) -> None:
    async with Caller(sim.url) as call:
        await call("GET", "/crm/v3/objects/contacts")
        reply = await call("GET", "/account-info/v3/api-usage/daily/private-apps")
    (usage,) = reply.json["results"]
    assert (usage["currentUsage"], usage["usageLimit"], usage["fetchStatus"]) == (2, 625_000, "SUCCESS")


async def test_unknown_path_is_a_404_and_logged(sim: Simulator) -> None:
    async with Caller(sim.url) as call:
        assert (await call("GET", "/crm/v9/objects")).status == 404
    assert [(logged.path, logged.status) for logged in sim.requests] == [("/crm/v9/objects", 404)]
