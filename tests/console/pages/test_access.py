"""Which roles may open which page, over real HTTP."""

import pytest
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.console.accounts.policy import Role
from spokes.console.accounts.sessions import COOKIE
from tests.support.console_visitor import Visitor, archive

PAGES = {
    "/console": "all", "/console/now/live": "all", "/console/object": "all", "/console/dead": "all",
    "/console/audit": "all", "/console/audit/export": "operator privacy_officer admin",
    "/console/pauses": "all", "/console/gaps": "all",
    "/console/privacy": "privacy_officer admin",
    "/console/incidents": "privacy_officer admin",
}  # fmt: skip


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("path", PAGES)
async def test_each_page_is_open_to_its_roles_only(
    client: TestClient, sqlite_engine: AsyncEngine, redis: Redis, path: str, role: Role
) -> None:
    await archive(redis, sqlite_engine)
    visitor = await Visitor.signed_in(client, role)
    async with client.get(path, headers={"Cookie": f"{COOKIE}={visitor.cookie}"}) as response:
        assert response.status == (200 if PAGES[path] == "all" or role in PAGES[path].split() else 403)


ACTIONS = {
    "/console/dead/replay": "operator admin", "/console/dead/discard": "operator admin",
    "/console/quarantine/replay": "operator admin", "/console/quarantine/discard": "operator admin",
    "/console/dead/7/k/reveal": "privacy_officer admin", "/console/audit/verify": "all",
    "/console/pauses/resume": "operator admin", "/console/gaps/close": "operator admin",
    "/console/incidents": "privacy_officer admin", "/console/incidents/0123abcd/note": "privacy_officer admin",
    "/console/incidents/0123abcd/close": "privacy_officer admin",
    "/console/incidents/0123abcd/export": "privacy_officer admin",
}  # fmt: skip


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("path", ACTIONS)
async def test_each_action_is_open_to_its_roles_only(
    client: TestClient, sqlite_engine: AsyncEngine, redis: Redis, path: str, role: Role
) -> None:
    await archive(redis, sqlite_engine)
    response = await (await Visitor.signed_in(client, role)).post(path, {})
    assert (response.status == 403) == (ACTIONS[path] != "all" and role not in ACTIONS[path].split())


async def test_pages_without_a_session_redirect_to_the_login(client: TestClient) -> None:
    for path in ("", "/object", "/dead", "/audit", "/privacy", "/incidents", "/settings", "/now/live"):
        async with client.get("/console" + path, allow_redirects=False) as response:
            assert (response.status, response.headers.get("Location")) == (303, "/console/login")


async def test_navigation_has_only_the_pages_of_the_role(client: TestClient) -> None:
    _, page = await (await Visitor.signed_in(client, Role.VIEWER)).get("/console")
    assert [name for name in ("Audit", "Privacy", "Incidents", "Settings") if f">{name}</a>" in page] == ["Audit"]
