"""Logging in and out of the console over real HTTP, on a real Valkey."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis
from structlog.testing import capture_logs

from spokes.console.accounts.policy import Role
from spokes.console.accounts.sessions import COOKIE
from spokes.console.accounts.users import Users
from spokes.console.web.app_keys import SESSIONS, USERS
from tests.support.console_visitor import SEALS, Visitor, freeze_rate_limit_window, running_console
from tests.support.events import recorded

PASSWORD = "correct horse battery"
HERE = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
async def client(environ: dict[str, str], redis: Redis) -> AsyncIterator[TestClient]:
    async with running_console(environ) as client:
        await client.server.app[USERS].put("ada", [Role.VIEWER], [7], PASSWORD)
        yield client


async def log_in(client: TestClient, name: str, password: str, **headers: str) -> ClientResponse:
    form = {"name": name, "password": password}
    async with client.post("/console/login", data=form, headers=headers or HERE, allow_redirects=False) as response:
        await response.read()
        return response


async def test_password_login_starts_a_session_with_the_accounts_roles_and_portals(client: TestClient) -> None:
    with capture_logs() as lines:
        response = await log_in(client, "ada", PASSWORD)
    assert (response.status, response.headers["Location"]) == (303, "/console")
    actor = await client.server.app[SESSIONS].find(response.cookies[COOKIE].value)
    assert actor is not None
    assert (actor.name, actor.roles, actor.portals) == ("ada", {Role.VIEWER}, {7})
    assert [line["actor"] for line in lines if line["event"] == "login_succeeded"] == ["ada"]


async def test_cookie_is_bound_to_the_host_and_hidden_from_scripts_and_other_sites(client: TestClient) -> None:
    cookie = (await log_in(client, "ada", PASSWORD)).headers["Set-Cookie"]
    assert cookie.startswith("__Host-")
    assert {"HttpOnly", "Secure", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))


@pytest.mark.parametrize(("name", "password"), [("ada", "wrong"), ("nobody", PASSWORD), ("ada", "")])
async def test_failed_login_does_not_say_what_was_wrong(client: TestClient, name: str, password: str) -> None:
    with capture_logs() as lines:
        response = await log_in(client, name, password)
    assert response.status == 401
    assert "Name and password do not match an account." in await response.text()
    assert "Set-Cookie" not in response.headers
    assert "login_failed" in [line["event"] for line in lines]
    assert PASSWORD not in str(lines)


async def test_guesses_are_throttled_by_name_even_with_the_right_password(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    freeze_rate_limit_window(monkeypatch)
    for _ in range(5):
        await log_in(client, "ada", "wrong")
    with capture_logs() as lines:
        response = await log_in(client, "ada", PASSWORD)
    assert response.status == 429
    assert int(response.headers["Retry-After"]) <= 300
    assert "login_throttled" in [line["event"] for line in lines]


async def test_guesses_are_throttled_by_address_whatever_the_name(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    freeze_rate_limit_window(monkeypatch)
    statuses = [(await log_in(client, f"user{number}", "wrong")).status for number in range(21)]
    assert statuses == [401] * 20 + [429]


async def test_login_form_from_another_site_is_refused(client: TestClient) -> None:
    response = await log_in(client, "ada", PASSWORD, **{"Sec-Fetch-Site": "cross-site"})
    assert response.status == 403


async def test_cookie_is_invalid_after_logout(client: TestClient) -> None:
    visitor = await Visitor.signed_in(client, Role.VIEWER)
    assert (await visitor.get("/console/dead"))[0] == 200
    assert (await visitor.post("/console/logout", {})).status == 303
    assert (await visitor.get("/console/dead"))[0] == 303


async def test_logout_without_the_csrf_token_is_refused(client: TestClient) -> None:
    visitor = await Visitor.signed_in(client, Role.VIEWER)
    assert (await visitor.post("/console/logout", {}, csrf="0" * 64)).status == 403
    assert (await visitor.get("/console/dead"))[0] == 200


async def test_login_link_survives_get_and_works_once(client: TestClient) -> None:
    path = f"/console/login/{await client.server.app[USERS].create_login_link('ada')}"
    for _ in range(2):
        async with client.get(path) as response:
            assert response.status == 200
            assert "Set-Cookie" not in response.headers
    statuses = []
    for _ in range(2):
        async with client.post(path, headers=HERE, allow_redirects=False) as response:
            statuses.append(response.status)
    assert statuses == [303, 401]


async def test_login_link_of_a_removed_account_is_refused(client: TestClient) -> None:
    users = client.server.app[USERS]
    token = await users.create_login_link("ada")
    await users.remove("ada")
    async with client.post(f"/console/login/{token}", headers=HERE, allow_redirects=False) as response:
        assert response.status == 401


async def test_redis_contains_neither_passwords_nor_link_tokens(redis: Redis) -> None:
    users = Users(redis, SEALS)
    await users.put("ada", [Role.VIEWER], None, PASSWORD)
    token = await users.create_login_link("ada")
    contents = str([await redis.hgetall("spokes:console:users"), await redis.keys("*")])  # type: ignore[misc]  # redis-py types
    assert not any(text in contents for text in ("$argon2id$", PASSWORD, "viewer"))
    assert token not in contents


async def test_login_and_logout_are_audited_with_their_address(client: TestClient, redis: Redis) -> None:
    cookie = (await log_in(client, "ada", PASSWORD)).cookies[COOKIE].value
    visitor = Visitor(client, cookie, client.server.app[SESSIONS].csrf_token(cookie))
    await visitor.post("/console/logout", {})
    logins = [(record.action, record.actor, record.detail["address"]) for record in await recorded(redis)]
    assert logins == [("login", "ada", "127.0.0.1"), ("logout", "ada", "127.0.0.1")]
