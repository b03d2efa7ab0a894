"""Login by an identity provider, over real HTTP at both ends."""

import time
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer
from redis.asyncio import Redis

from spokes.console.accounts.api_tokens import ApiTokens
from spokes.console.accounts.policy import Role
from spokes.console.accounts.sessions import COOKIE as SESSION
from spokes.console.app import create_app
from spokes.console.identity.login_flow import CALLBACK
from spokes.console.web.app_keys import SESSIONS, SETTINGS
from spokes.console.web.login.oidc_pages import LOGIN_COOKIE, LOGIN_PATH
from spokes.core.settings import Settings
from tests.support.console_visitor import KEY, freeze_rate_limit_window, running_console
from tests.support.events import recorded
from tests.support.identity_provider import CLIENT_ID, CLIENT_SECRET, SECOND, IdentityProvider


@pytest.fixture
async def client(environ: dict[str, str], redis: Redis, idp: IdentityProvider) -> AsyncIterator[TestClient]:
    async with running_console(environ, **idp.environ()) as client:
        yield client


class Browser:
    """Follows a login step by step and keeps cookies."""

    def __init__(self, client: TestClient) -> None:
        self.client, self.cookies = client, {}

    async def get(self, path: str) -> ClientResponse:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        async with self.client.get(path, headers={"Cookie": cookie}, allow_redirects=False) as response:
            await response.read()
        self.cookies |= {name: morsel.value for name, morsel in response.cookies.items()}
        return response

    async def start_login(self) -> str:
        """Start a login at the provider; return the path of its callback."""
        redirect = await self.get(LOGIN_PATH)
        assert redirect.status == 303
        async with self.client.session.get(redirect.headers["Location"], allow_redirects=False) as response:
            callback = urlsplit(response.headers["Location"])
        assert f"{callback.scheme}://{callback.netloc}{callback.path}" == f"https://hooks.example.com{CALLBACK}"
        return f"{callback.path}?{callback.query}"

    async def log_in(self) -> ClientResponse:
        return await self.get(await self.start_login())


async def test_provider_login_starts_a_session_with_the_mapped_role(client: TestClient) -> None:
    browser = Browser(client)
    response = await browser.log_in()
    assert (response.status, response.headers["Refresh"]) == (200, "0; url=/console")
    actor = await client.server.app[SESSIONS].find(browser.cookies[SESSION])
    assert actor is not None
    assert (actor.name, actor.roles, actor.portals) == ("oidc:ada@example.com", {Role.OPERATOR}, None)
    assert (await browser.get("/console/dead")).status == 200


async def test_provider_login_is_audited_with_its_address(client: TestClient, redis: Redis) -> None:
    await Browser(client).log_in()
    *_, record = await recorded(redis)
    assert (record.action, record.actor) == ("login", "oidc:ada@example.com")
    assert record.detail == {"by": "oidc", "address": "127.0.0.1"}


async def test_login_page_offers_the_provider(client: TestClient) -> None:
    assert f'href="{LOGIN_PATH}"' in await (await Browser(client).get("/console/login")).text()


async def test_authorization_request_has_unguessable_state_nonce_and_challenge(client: TestClient) -> None:
    queries = [parse_qs(urlsplit((await Browser(client).get(LOGIN_PATH)).headers["Location"]).query) for _ in range(2)]
    for name in ("state", "nonce", "code_challenge"):
        assert len(queries[0][name][0]) >= 43
        assert queries[0][name] != queries[1][name]
    assert queries[0]["code_challenge_method"] == ["S256"]
    assert queries[0]["redirect_uri"] == [f"https://hooks.example.com{CALLBACK}"]


async def test_login_cookie_is_bound_to_the_host_and_hidden_from_scripts(client: TestClient) -> None:
    cookie = (await Browser(client).get(LOGIN_PATH)).headers["Set-Cookie"]
    assert {"HttpOnly", "Secure", "SameSite=Lax", "Path=/", "Max-Age=600"} <= set(cookie.split("; "))
    assert cookie.startswith("__Host-")


async def refused(response: ClientResponse, status: int = 401) -> bool:
    return response.status == status and SESSION not in response.cookies and 'role="alert"' in await response.text()


async def test_callback_of_a_login_started_in_another_browser_is_refused(client: TestClient) -> None:
    foreign_callback = await Browser(client).start_login()
    victim = Browser(client)
    assert await refused(await victim.get(foreign_callback))  # the victim started no login
    await victim.start_login()
    assert await refused(await victim.get(foreign_callback))  # the victim started another login


async def test_callback_works_once(client: TestClient) -> None:
    browser = Browser(client)
    callback = await browser.start_login()
    login_cookie = browser.cookies[LOGIN_COOKIE]
    assert (await browser.get(callback)).status == 200
    assert browser.cookies[LOGIN_COOKIE] == ""
    browser.cookies[LOGIN_COOKIE] = login_cookie  # as a thief would; the provider accepts a code once
    assert await refused(await browser.get(callback))


async def test_login_cookie_expires(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spokes.console.identity.login_flow.LOGIN_TTL_S", -1)
    assert await refused(await Browser(client).log_in())


async def test_login_cookie_signed_with_another_key_is_refused(client: TestClient) -> None:
    browser = Browser(client)
    callback = await browser.start_login()
    browser.cookies[LOGIN_COOKIE] = ApiTokens.from_settings(client.server.app[SETTINGS]).mint("x", [Role.ADMIN]).token
    assert await refused(await browser.get(callback))


NOW = int(time.time())
WRONG = {
    "another nonce": {"nonce": "another"},
    "no nonce": {"nonce": None},
    "another audience": {"aud": "another"},
    "the API's audience": {"aud": "spokes-api-of-ours"},
    "another audience in addition to ours": {"aud": [CLIENT_ID, "another"]},
    "another party": {"azp": "another"},
    "another issuer": {"iss": "https://login.example.com"},
    "expired": {"iat": NOW - 900, "exp": NOW - 600},
    "an unknown key": {"kid": "second", "key": SECOND},
    "another key": {"key": SECOND},
    "a shared secret": {"key": CLIENT_SECRET.encode(), "algorithm": "HS256"},
}


@pytest.mark.parametrize("case", WRONG)
async def test_id_token_is_refused_for(client: TestClient, idp: IdentityProvider, case: str) -> None:
    idp.id_token_overrides = WRONG[case]
    assert await refused(await Browser(client).log_in())


@pytest.mark.parametrize("query", ["", "&error=access_denied", "&code=invented", "&code=%ff%fe"])
async def test_callback_without_a_valid_code_is_refused(client: TestClient, query: str) -> None:
    browser = Browser(client)
    state = parse_qs(urlsplit(await browser.start_login()).query)["state"][0]
    assert await refused(await browser.get(f"{CALLBACK}?state={state}{query}"))


async def test_callback_of_another_issuer_is_refused(client: TestClient) -> None:
    browser = Browser(client)
    callback = await browser.start_login()
    assert await refused(await browser.get(callback.partition("&iss=")[0] + "&iss=https://evil.example"))


async def test_person_without_a_role_is_refused(client: TestClient, idp: IdentityProvider) -> None:
    idp.person = {"sub": "7", "email": "eve@example.com", "email_verified": True, "roles": ["visitors"]}
    assert await refused(await Browser(client).log_in(), 403)


async def test_listed_email_address_gives_its_role(client: TestClient, idp: IdentityProvider) -> None:
    idp.person = {"sub": "8", "email": "grace@example.com", "email_verified": True}
    browser = Browser(client)
    await browser.log_in()
    actor = await client.server.app[SESSIONS].find(browser.cookies[SESSION])
    assert actor is not None
    assert actor.roles == {Role.ADMIN}


@pytest.mark.parametrize("name", ["next", "redirect", "return_to", "redirect_uri", "url"])
async def test_query_parameters_do_not_redirect_after_a_login(client: TestClient, name: str) -> None:
    browser = Browser(client)
    callback = f"{await browser.start_login()}&{name}=https://evil.example/"
    response = await browser.get(callback)
    assert "evil.example" not in str(response.headers) + await response.text()
    redirect = await browser.get(f"{LOGIN_PATH}?{name}=https://evil.example/")
    assert "evil.example" not in redirect.headers["Location"]


async def test_callbacks_are_throttled_by_address(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    freeze_rate_limit_window(monkeypatch)
    statuses = [(await Browser(client).get(f"{CALLBACK}?code=x&state=y")).status for _ in range(101)]
    assert statuses == [401] * 100 + [429]


async def test_password_form_works_while_the_provider_is_unavailable(client: TestClient, idp: IdentityProvider) -> None:
    await idp.server.close()
    assert (await Browser(client).get(LOGIN_PATH)).status == 503
    assert (await Browser(client).get("/console/login")).status == 200


async def test_client_secret_is_sent_in_the_form_if_the_provider_requires_it(
    client: TestClient, idp: IdentityProvider
) -> None:
    idp.discovery_overrides = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    assert (await Browser(client).log_in()).status == 200


async def test_provider_login_is_404_without_a_provider(environ: dict[str, str], redis: Redis) -> None:
    settings = Settings.from_env({**environ, "CONSOLE_KEY": KEY})
    async with TestClient(TestServer(create_app(settings))) as client:
        for path in (LOGIN_PATH, CALLBACK):
            assert (await Browser(client).get(path)).status == 404
        assert LOGIN_PATH not in await (await Browser(client).get("/console/login")).text()


async def test_api_accepts_provider_tokens(client: TestClient, idp: IdentityProvider) -> None:
    for token, status in ((idp.token(), 200), (idp.token(SECOND), 401), (idp.token(aud=CLIENT_ID), 401)):
        async with client.get("/api/v1/queue", headers={"Authorization": f"Bearer {token}"}) as response:
            assert response.status == status


async def test_api_is_503_while_the_keys_cannot_be_fetched(client: TestClient, idp: IdentityProvider) -> None:
    token = idp.token()
    await idp.server.close()
    async with client.get("/api/v1/queue", headers={"Authorization": f"Bearer {token}"}) as response:
        assert (response.status, response.content_type) == (503, "application/problem+json")
        assert response.headers["Retry-After"] == "5"


async def test_our_tokens_and_provider_tokens_have_separate_rate_limits(
    environ: dict[str, str], redis: Redis, idp: IdentityProvider
) -> None:
    settings = Settings.from_env({**environ, "CONSOLE_KEY": KEY, **idp.environ(), "CONSOLE_RATE_LIMIT": "1"})
    our_token = ApiTokens.from_settings(settings).mint("oidc:ada@example.com", [Role.VIEWER]).token
    async with TestClient(TestServer(create_app(settings))) as client:
        statuses = []
        for token in (idp.token(), our_token, our_token, our_token, our_token):
            async with client.get("/api/v1/queue", headers={"Authorization": f"Bearer {token}"}) as response:
                statuses.append(response.status)
    assert statuses[:2] == [200, 200]
    assert 429 in statuses


async def test_provider_token_is_revoked_by_its_id(client: TestClient, idp: IdentityProvider) -> None:
    admin = ApiTokens.from_settings(client.server.app[SETTINGS]).mint("admin", [Role.ADMIN]).token
    headers = {"Authorization": f"Bearer {admin}"}
    body = {"reason": "it was in a screenshot"}
    async with client.post("/api/v1/tokens/stolen-one/revoke", json=body, headers=headers) as response:
        assert response.status == 200
    for name, status in (("stolen-one", 401), ("another", 200)):
        headers = {"Authorization": f"Bearer {idp.token(jti=name)}"}
        async with client.get("/api/v1/queue", headers=headers) as response:
            assert response.status == status
