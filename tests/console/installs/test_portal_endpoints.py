"""The API of installed portals, over real HTTP."""

import pytest
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis

from spokes.console.accounts.api_tokens import ApiTokens
from spokes.console.accounts.policy import Role
from spokes.console.web.app_keys import SETTINGS
from spokes.core import clock
from spokes.core.redis import keys
from spokes.portals.store import PortalState, PortalStore
from tests.console.installs.conftest import Customer
from tests.console.installs.test_portal_pages import install
from tests.support.hubspot.oauth_hubspot import PORTAL


def authorization(client: TestClient, role: Role, *portals: int) -> dict[str, str]:
    token = ApiTokens.from_settings(client.server.app[SETTINGS]).mint("robot", [role], list(portals) or None).token
    return {"Authorization": f"Bearer {token}"}


async def test_portals_are_listed_page_by_page(client: TestClient, store: PortalStore) -> None:
    await install(store, 11, 12, 13)
    headers, path, seen = authorization(client, Role.VIEWER), "/api/v1/portals?limit=2", []
    while path:
        async with client.get(path, headers=headers) as response:
            page = await response.json()
        seen += [item["portal_id"] for item in page["items"]]
        path = f"/api/v1/portals?limit=2&after={page['next']}" if page["next"] else ""
    assert seen == [11, 12, 13]


@pytest.mark.parametrize("order", ["portal", "name", "dead_letters"])
async def test_pages_of_a_sorted_list_hold_each_portal_once(
    client: TestClient, store: PortalStore, redis: Redis, order: str
) -> None:
    for portal_id, name in ((11, "c"), (12, "b"), (13, "a"), (14, "other")):
        await install(store, portal_id, name=f"shop {name}" if name != "other" else name)
    await redis.zadd(keys.dead_letters_by_time(12), {"k": 1})
    path, seen = f"/api/v1/portals?limit=1&q=shop&sort={order}", []
    following = path
    while following:
        async with client.get(following, headers=authorization(client, Role.VIEWER)) as response:
            page = await response.json()
        seen += [item["portal_id"] for item in page["items"]]
        following = f"{path}&after={page['next']}" if page["next"] else ""
    assert seen == {"portal": [11, 12, 13], "name": [13, 12, 11], "dead_letters": [12, 11, 13]}[order]


async def test_portal_has_backlog_lag_and_budget(client: TestClient, store: PortalStore, redis: Redis) -> None:
    await install(store, 11)
    await redis.zadd(keys.QUEUES["interactive"], {"11-1-a": clock.now_ms() - 60_000})
    async with client.get("/api/v1/portals/11", headers=authorization(client, Role.VIEWER)) as response:
        portal = await response.json()
    assert (portal["backlog"], portal["calls_used"], portal["calls_limit"]) == (1, 0, 110)
    assert portal["lag_s"] >= 60


@pytest.mark.parametrize("query", ["sort=age", "q=" + "x" * 101, "after=-1", "after=x"])
async def test_wrong_query_is_refused(client: TestClient, store: PortalStore, query: str) -> None:
    async with client.get(f"/api/v1/portals?{query}", headers=authorization(client, Role.VIEWER)) as response:
        assert response.status in {400, 422}


async def test_portals_are_selected_by_state(client: TestClient, store: PortalStore) -> None:
    await install(store, 11, 12)
    await store.mark(12, PortalState.NEEDS_REINSTALL, "bad_refresh_token")
    async with client.get(
        "/api/v1/portals?state=needs_reinstall", headers=authorization(client, Role.VIEWER)
    ) as response:
        [item] = (await response.json())["items"]
    assert (item["portal_id"], item["reason"]) == (12, "bad_refresh_token")


async def test_token_limited_to_a_portal_sees_only_that_one(client: TestClient, store: PortalStore) -> None:
    await install(store, 11, 12)
    headers = authorization(client, Role.ADMIN, 12)
    async with client.get("/api/v1/portals", headers=headers) as response:
        assert [item["portal_id"] for item in (await response.json())["items"]] == [12]
    async with client.get("/api/v1/portals/11", headers=headers) as response:
        assert response.status == 404
    body = {"reason": "x"}
    async with client.post("/api/v1/portals/11/disconnect", json=body, headers=headers) as response:
        assert response.status == 404
    async with client.get("/api/v1/portals/12", headers=headers) as response:
        assert (await response.json())["state"] == "installed"


async def test_admin_disconnects_a_portal(client: TestClient, customer: Customer, store: PortalStore) -> None:
    await customer.install()
    path, body = f"/api/v1/portals/{PORTAL}/disconnect", {"reason": "contract ended"}
    async with client.post(path, json=body, headers=authorization(client, Role.OPERATOR)) as response:
        assert response.status == 403
    admin = authorization(client, Role.ADMIN)
    async with client.post(path, json=body, headers=admin) as response:
        assert await response.json() == {"was_installed": True}
    assert await store.tokens(PORTAL) is None
    async with client.post(path, json=body, headers=admin) as response:
        assert (response.status, response.content_type) == (409, "application/problem+json")
