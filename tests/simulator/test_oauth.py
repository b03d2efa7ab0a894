import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import aiohttp
import hubspot
import pytest

from spokes.simulator.__main__ import build_config, build_parser
from spokes.simulator.app import Simulator
from spokes.simulator.clock import ManualClock
from spokes.simulator.config import OAuthConfig, SimulatorConfig
from tests.support.hubspot.probe import Caller

PORTAL, SECRET, CLIENT = 700100, SimulatorConfig().client_secret, OAuthConfig().client_id
CALLBACK = "https://spokes.example.com/oauth/callback"
SCOPES = "oauth crm.objects.contacts.read"
VERIFIER = "a-verifier-of-at-least-forty-three-characters-0123"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
APP = {"client_id": CLIENT, "client_secret": SECRET}


class Browser:
    """A browser that follows no redirect, and the app's server, on one simulator."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def post(self, path: str, **form: str) -> tuple[int, Any]:
        async with self._session.post(self.url + path, data=form) as response:
            return response.status, await response.json(content_type=None)

    async def authorize(self, answer: Mapping[str, str], path: str = "/oauth/authorize", **query: str) -> str:
        """Answer the page, and return the address that the browser is redirected to."""
        query = {"client_id": CLIENT, "redirect_uri": CALLBACK, "scope": SCOPES, "state": "s1"} | query
        address = f"{self.url}{path}?{urlencode(query)}"
        async with self._session.post(address, data=answer, allow_redirects=False) as response:
            assert response.status == HTTPStatus.FOUND, await response.text()
            return response.headers["Location"]

    async def code(self, portal_id: int = PORTAL, **query: str) -> str:
        location = await self.authorize({"portal": str(portal_id)}, **query)
        return dict(parse_qsl(urlsplit(location).query))["code"]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def hub(clock: ManualClock) -> AsyncIterator[Simulator]:
    async with Simulator(clock=clock) as running:
        running.add_portal(PORTAL)
        yield running


@pytest.fixture
async def browser(hub: Simulator) -> AsyncIterator[Browser]:
    async with aiohttp.ClientSession() as session:
        yield Browser(hub.url, session)


async def test_install_leads_to_tokens_of_the_chosen_account(hub: Simulator, browser: Browser) -> None:
    location = await browser.authorize({"portal": str(PORTAL)})
    assert location.startswith(f"{CALLBACK}?code=")
    assert location.endswith("&state=s1")
    code = await browser.code()
    status, tokens = await browser.post(
        "/oauth/2026-09/token", **APP, grant_type="authorization_code", code=code, redirect_uri=CALLBACK
    )
    assert status == HTTPStatus.OK
    assert (tokens["hub_id"], tokens["expires_in"], tokens["token_type"]) == (PORTAL, 1800, "bearer")
    assert tokens["scopes"] == sorted(SCOPES.split())
    async with Caller(hub.url, tokens["access_token"]) as call:
        details = await call("GET", "/account-info/2026-09/details")
    assert details.json["portalId"] == PORTAL


async def test_account_in_the_path_is_the_one_that_installs(browser: Browser) -> None:
    location = await browser.authorize({}, f"/oauth/{PORTAL}/authorize")
    assert "code=" in location


async def test_cancelled_install_returns_access_denied(browser: Browser) -> None:
    query = dict(parse_qsl(urlsplit(await browser.authorize({"answer": "cancel"})).query))
    assert (query["error"], query["state"]) == ("access_denied", "s1")


@pytest.mark.parametrize(("form", "code"), [
    ({"grant_type": "authorization_code", "code": "unknown", "redirect_uri": CALLBACK}, "BAD_AUTH_CODE"),
    ({"grant_type": "refresh_token", "refresh_token": "unknown"}, "BAD_REFRESH_TOKEN"),
    ({"grant_type": "password"}, "BAD_GRANT_TYPE"),
    ({"grant_type": "refresh_token", "client_id": "other"}, "BAD_CLIENT_ID"),
    ({"grant_type": "refresh_token", "client_secret": "other"}, "BAD_CLIENT_SECRET"),
])  # fmt: skip
async def test_refusals_name_error_and_code(browser: Browser, form: dict[str, str], code: str) -> None:
    status, body = await browser.post("/oauth/2026-09/token", **(APP | form))
    assert (status, body["status"]) == (HTTPStatus.BAD_REQUEST, code)
    assert body["error"] in {"invalid_grant", "invalid_client", "unsupported_grant_type"}


async def test_code_works_once(browser: Browser) -> None:
    form = {"grant_type": "authorization_code", "code": await browser.code(), "redirect_uri": CALLBACK}
    statuses = [(await browser.post("/oauth/v3/token", **APP, **form))[0] for _ in range(2)]
    assert statuses == [HTTPStatus.OK, HTTPStatus.BAD_REQUEST]


@pytest.mark.parametrize(("verifier", "status"), [(VERIFIER, 200), ("wrong", 400), ("", 400)])
async def test_code_needs_the_verifier_of_its_challenge(browser: Browser, verifier: str, status: int) -> None:
    code = await browser.code(code_challenge=CHALLENGE, code_challenge_method="S256")
    form = {"code": code, "redirect_uri": CALLBACK, "code_verifier": verifier}
    answer, body = await browser.post("/oauth/2026-09/token", **APP, grant_type="authorization_code", **form)
    assert answer == status
    assert status == HTTPStatus.OK or body["status"] == "BAD_CODE_VERIFIER"


async def test_code_belongs_to_its_redirect_address(browser: Browser) -> None:
    form = {"code": await browser.code(), "redirect_uri": f"{CALLBACK}/other"}
    _, body = await browser.post("/oauth/2026-09/token", **APP, grant_type="authorization_code", **form)
    assert body["status"] == "BAD_REDIRECT_URI"


async def test_authorisation_without_a_required_scope_is_refused(browser: Browser) -> None:
    query = urlencode({"client_id": CLIENT, "redirect_uri": CALLBACK, "scope": "crm.objects.contacts.read"})
    status, body = await browser.post(f"/oauth/authorize?{query}", portal=str(PORTAL))
    assert (status, body["status"]) == (HTTPStatus.BAD_REQUEST, "BAD_SCOPES")


async def test_refresh_token_stays_the_same_without_rotation(hub: Simulator, browser: Browser) -> None:
    first = hub.installs.install(PORTAL, frozenset({"oauth"}))
    form = {"grant_type": "refresh_token", "refresh_token": first.refresh_token}
    _, tokens = await browser.post("/oauth/2026-09/token", **APP, **form)
    assert tokens["refresh_token"] == first.refresh_token
    assert tokens["access_token"] != first.access_token


def rotating(*, keeps: bool) -> Simulator:
    return Simulator(
        SimulatorConfig(oauth=OAuthConfig(rotates_refresh_tokens=True, keeps_previous_refresh_token=keeps))
    )


async def test_rotation_replaces_the_refresh_token() -> None:
    installs = rotating(keeps=False).installs
    first = installs.install(PORTAL, frozenset())
    second = installs.refresh(first.refresh_token)
    assert second.refresh_token != first.refresh_token
    with pytest.raises(Exception, match="invalid refresh token"):
        installs.refresh(first.refresh_token)
    assert installs.refresh(second.refresh_token)


async def test_previous_refresh_token_works_until_its_successor_is_used() -> None:
    installs = rotating(keeps=True).installs
    first = installs.install(PORTAL, frozenset())
    installs.refresh(first.refresh_token)  # its answer is lost
    second = installs.refresh(first.refresh_token)
    installs.refresh(second.refresh_token)
    with pytest.raises(Exception, match="invalid refresh token"):
        installs.refresh(first.refresh_token)


async def test_access_token_expires_on_the_simulators_clock(hub: Simulator, clock: ManualClock) -> None:
    issued = hub.installs.install(PORTAL, frozenset({"oauth"}))
    clock.advance(1801)
    async with Caller(hub.url, issued.access_token) as call:
        reply = await call("GET", "/account-info/2026-09/details")
    assert (reply.status, reply.json["category"]) == (HTTPStatus.UNAUTHORIZED, "EXPIRED_AUTHENTICATION")


def test_speed_shortens_the_lifetime_that_a_response_names() -> None:
    assert Simulator(SimulatorConfig(speed=600)).installs.install(1, frozenset()).expires_in_s == 3


async def test_introspection_names_portal_and_scopes(hub: Simulator, browser: Browser) -> None:
    issued = hub.installs.install(PORTAL, frozenset({"oauth", "a"}))
    _, info = await browser.post("/oauth/2026-09/token/introspect", **APP, token=issued.access_token)
    assert (info["active"], info["hub_id"], info["scopes"]) == (True, PORTAL, ["a", "oauth"])
    _, unknown = await browser.post("/oauth/2026-09/token/introspect", **APP, token="unknown")
    assert unknown == {"active": False}


async def test_revoked_refresh_token_leaves_access_tokens_alive(hub: Simulator, browser: Browser) -> None:
    issued = hub.installs.install(PORTAL, frozenset({"oauth"}))
    await browser.post("/oauth/2026-09/token/revoke", **APP, token=issued.refresh_token)
    form = {"grant_type": "refresh_token", "refresh_token": issued.refresh_token}
    _, body = await browser.post("/oauth/2026-09/token", **APP, **form)
    assert body["status"] == "BAD_REFRESH_TOKEN"
    async with Caller(hub.url, issued.access_token) as call:
        assert (await call("GET", "/account-info/2026-09/details")).status == HTTPStatus.OK


async def test_uninstall_ends_all_tokens(hub: Simulator) -> None:
    issued = hub.installs.install(PORTAL, frozenset({"oauth"}))
    async with Caller(hub.url, issued.access_token) as call:
        statuses = [(await call("DELETE", "/appinstalls/2026-09/external-install")).status for _ in range(2)]
    assert statuses == [HTTPStatus.NO_CONTENT, HTTPStatus.UNAUTHORIZED]
    assert hub.installs.portals == set()


async def test_refresh_for_an_account_that_is_gone_names_the_hub(hub: Simulator, browser: Browser) -> None:
    issued = hub.installs.install(PORTAL, frozenset({"oauth"}))
    hub.installs.uninstall(PORTAL, is_hub_gone=True)
    form = {"grant_type": "refresh_token", "refresh_token": issued.refresh_token}
    _, body = await browser.post("/oauth/2026-09/token", **APP, **form)
    assert (body["error"], body["status"]) == ("access_denied", "BAD_HUB")


async def test_oauth_tokens_have_their_own_limit_and_no_daily_one(hub: Simulator) -> None:
    issued = hub.installs.install(PORTAL, frozenset({"oauth"}))
    async with Caller(hub.url, issued.access_token) as call:
        headers = (await call("GET", "/account-info/2026-09/details")).headers
    assert headers["X-HubSpot-RateLimit-Max"] == "110"
    assert "X-HubSpot-RateLimit-Daily" not in headers


async def test_call_without_the_scope_is_refused(hub: Simulator) -> None:
    issued = hub.installs.install(PORTAL, frozenset({"oauth"}))
    async with Caller(hub.url, issued.access_token) as call:
        reply = await call("GET", "/crm/v3/objects/contacts/1")
    assert reply.json["category"] == "MISSING_SCOPES"


async def test_faults_apply_to_the_token_endpoint(call: Caller, sim: Simulator) -> None:
    fault = {"path": "/oauth/*", "status": 429, "retry_after": "3", "times": 1}
    await call("POST", "/_sim/faults", fault)
    async with Caller(sim.url, "") as app:
        replies = [await app("POST", "/oauth/2026-09/token", b"") for _ in range(2)]
    assert [reply.status for reply in replies] == [HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.BAD_REQUEST]
    assert replies[0].headers["Retry-After"] == "3"


async def test_accounts_are_added_and_installed_by_control_endpoints(call: Caller, sim: Simulator) -> None:
    await call("POST", "/_sim/portals", {"portal_id": PORTAL})
    issued = (await call("POST", "/_sim/installs", None, portal=str(PORTAL))).json
    assert issued["portal_id"] == PORTAL
    state = (await call("GET", "/_sim/installs")).json
    assert state["portals"] == [PORTAL]
    assert (await call("POST", "/_sim/installs/expire")).json == {"expired": 1}
    assert (await call("DELETE", "/_sim/installs", None, portal=str(PORTAL))).json == {"portals": []}
    assert sim.installs.portals == set()


async def test_app_can_be_refused_for_a_while(call: Caller, sim: Simulator) -> None:
    await call("PUT", "/_sim/oauth", {"refuses_client": True, "rotates_refresh_tokens": True})
    assert (sim.installs.refuses_client, sim.installs.config.rotates_refresh_tokens) == (True, True)
    reply = await call("PUT", "/_sim/oauth", {"no_such_field": 1})
    assert reply.status == HTTPStatus.BAD_REQUEST


async def test_log_holds_no_token(hub: Simulator, browser: Browser) -> None:
    issued = hub.installs.install(PORTAL, frozenset({"oauth"}))
    await browser.post("/oauth/2026-09/token", **APP, grant_type="refresh_token", refresh_token=issued.refresh_token)
    (entry,) = hub.requests.find(path="/oauth/*")
    assert (entry.portal_id, entry.status) == (PORTAL, HTTPStatus.OK)
    assert issued.refresh_token not in str(entry.as_json())


async def test_official_client_refreshes_tokens(hub: Simulator) -> None:
    issued = hub.installs.install(PORTAL, frozenset({"oauth"}))
    tokens_api = hubspot.Client(host=hub.url).oauth.tokens_api
    answer = await asyncio.to_thread(
        tokens_api.create,
        grant_type="refresh_token",
        refresh_token=issued.refresh_token,
        client_id=CLIENT,
        client_secret=SECRET,
    )
    assert (answer.refresh_token, answer.expires_in) == (issued.refresh_token, 1800)


def test_command_line_adds_accounts_that_can_install() -> None:
    arguments = build_parser().parse_args(["--portals", "2", "--portal-id", "700", "--client-id", "c"])
    config = build_config(arguments)
    assert [(portal.portal_id, bool(portal.token)) for portal in config.portals] == [
        (700, True), (701, False), (702, False),
    ]  # fmt: skip
    assert config.oauth.client_id == "c"
