"""Logging in and out of the console over real HTTP, on a real Valkey."""

from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis
from structlog.testing import capture_logs

from spokes.console.accounts.known_browsers import COOKIE as BROWSER
from spokes.console.accounts.known_browsers import KnownBrowsers
from spokes.console.accounts.policy import Role
from spokes.console.accounts.sessions import COOKIE
from spokes.console.accounts.users import Users
from spokes.console.web.app_keys import SESSIONS, USERS
from tests.support.console_visitor import SEALS, Visitor, freeze_rate_limit_window, running_console
from tests.support.events import recorded

PASSWORD = "correct horse battery"
HERE = {"Sec-Fetch-Site": "same-origin", "X-Forwarded-Proto": "https"}


@pytest.fixture
async def client(environ: dict[str, str], redis: Redis) -> AsyncIterator[TestClient]:
    async with running_console(environ) as client:
        await client.server.app[USERS].put("ada", [Role.VIEWER], [7], PASSWORD)
        yield client


async def log_in(client: TestClient, name: str, password: str, **headers: str) -> ClientResponse:
    form = {"name": name, "password": password}
    async with client.post("/console/login", data=form, headers={**HERE, **headers}, allow_redirects=False) as response:
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


async def test_guesses_for_a_name_from_one_network_are_throttled_even_with_the_right_password(
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


@pytest.mark.slow
async def test_guesses_from_one_network_are_throttled_whatever_the_name(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    freeze_rate_limit_window(monkeypatch)
    statuses = [(await log_in(client, f"user{number}", "wrong")).status for number in range(101)]
    assert statuses == [401] * 100 + [429]


@pytest.mark.slow
async def test_guesses_of_others_lock_out_neither_a_known_browser_nor_a_link_nor_another_network(
    environ: dict[str, str], redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    freeze_rate_limit_window(monkeypatch)
    async with running_console(environ, TRUSTED_PROXIES="1") as client:
        users = client.server.app[USERS]
        await users.put("ada", [Role.VIEWER], None, PASSWORD)
        office, home = {"X-Forwarded-For": "1.1.1.1"}, {"X-Forwarded-For": "2.2.2.2"}
        known = (await log_in(client, "ada", PASSWORD, **office)).cookies[BROWSER].value
        client.session.cookie_jar.clear()
        for number in range(130):
            await log_in(client, "ada" if number < 20 else f"user{number}", "wrong", **office)
        assert (await log_in(client, "ada", PASSWORD, **office)).status == 429
        browser = {**office, "Cookie": f"{BROWSER}={known}"}
        assert (await log_in(client, "ada", PASSWORD, **browser)).status == 303
        assert (await log_in(client, "ada", PASSWORD, **home)).status == 303
        link = await users.create_login_link("ada")
        path, headers = f"/console/login/{link}", {**HERE, **office}
        async with client.post(path, headers=headers, allow_redirects=False) as response:
            assert response.status == 303


async def test_known_browser_may_not_guess_without_limit(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    freeze_rate_limit_window(monkeypatch)
    known = (await log_in(client, "ada", PASSWORD)).cookies[BROWSER].value
    headers = {"Cookie": f"{BROWSER}={known}"}
    statuses = [(await log_in(client, "ada", "wrong", **headers)).status for _ in range(11)]
    assert statuses == [401] * 10 + [429]


@pytest.mark.parametrize(
    "change", [lambda cookie: cookie[:-1] + "x", lambda cookie: f"x{cookie}", lambda _: "..", lambda _: "a.b.c"]
)
def test_changed_cookie_of_a_browser_is_not_recognised(change: Callable[[str], str]) -> None:
    browsers = KnownBrowsers(b"k" * 32)
    cookie = browsers.issue("ada")
    assert browsers.recognise(cookie, "ada")
    assert (browsers.recognise(change(cookie), "ada"), browsers.recognise(cookie, "bob")) == ("", "")


@pytest.mark.parametrize("proto", ["http", "", "https, http"])
async def test_password_over_plain_http_is_refused(client: TestClient, proto: str) -> None:
    response = await log_in(client, "ada", PASSWORD, **{"X-Forwarded-Proto": proto})
    assert (response.status, "Set-Cookie" in response.headers) == (403, False)
    async with client.get("/console/login", headers={"X-Forwarded-Proto": proto}) as page:
        assert 'type="password"' not in await page.text()


async def test_password_over_http_is_accepted_where_the_deployment_is_reached_over_http(
    environ: dict[str, str], redis: Redis
) -> None:
    async with running_console(environ, PUBLIC_URL="http://localhost:8080") as client:
        await client.server.app[USERS].put("ada", [Role.VIEWER], None, PASSWORD)
        assert (await log_in(client, "ada", PASSWORD, **{"X-Forwarded-Proto": ""})).status == 303


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
