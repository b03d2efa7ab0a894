"""Installs by OAuth through the console's pages, against a HubSpot over real HTTP."""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core.errors import AuditUnavailable
from spokes.core.telemetry.alerts import Alert
from spokes.crm.scopes import requested_scopes, required_scopes
from spokes.handler_declarations import handler_declarations
from spokes.portals.store import PortalState, PortalStore
from spokes.routing import load_router
from tests.console.installs.conftest import Customer
from tests.support.console_visitor import freeze_rate_limit_window, running_console, visible_text
from tests.support.deployment import PUBLIC_URL
from tests.support.events import recorded
from tests.support.hubspot.oauth_hubspot import CLIENT_ID, PORTAL, OAuthHubSpot

NEEDED = requested_scopes(required_scopes(handler_declarations(load_router("handlers"))))


async def refused(response: ClientResponse, status: int, words: str) -> bool:
    text = visible_text(await response.text())
    return response.status == status and words in text and "Start again" in text


def fail_first(monkeypatch: pytest.MonkeyPatch, name: str, failures: Iterator[str]) -> None:
    """Let a method of the store fail as long as there are failures."""
    method = getattr(PortalStore, name)

    async def fail(store: PortalStore, *values: Any, **named: Any) -> Any:
        if next(failures, None) is not None:
            raise AuditUnavailable
        return await method(store, *values, **named)

    monkeypatch.setattr(PortalStore, name, fail)


def query_of(response: ClientResponse) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(response.headers["Location"]).query).items()}


async def test_install_stores_the_portal_with_its_tokens(
    customer: Customer, store: PortalStore, hubspot: OAuthHubSpot
) -> None:
    response = await customer.install()
    assert response.status == 200
    assert f"Installed for portal {PORTAL}" in visible_text(await response.text())
    portal, tokens = await store.get(PORTAL), await store.tokens(PORTAL)
    assert portal is not None
    assert tokens is not None
    assert (portal.state, set(portal.scopes)) == (PortalState.INSTALLED, set(NEEDED))
    assert tokens.access_token.get_secret_value() in hubspot.tokens


async def test_page_counts_the_handlers_that_listen(customer: Customer) -> None:
    count = len({route.name for _, route in load_router("handlers")})
    assert f"{count} handlers listen" in visible_text(await (await customer.install()).text())


async def test_start_asks_for_the_scopes_of_the_handlers_with_pkce(customer: Customer, hubspot: OAuthHubSpot) -> None:
    start = await customer.get("/oauth/install")
    query = query_of(start)
    assert start.headers["Location"].startswith(f"{hubspot.url}/oauth/authorize?")
    assert "+" not in urlsplit(start.headers["Location"]).query
    assert query["scope"].split() == list(NEEDED)
    assert (query["client_id"], query["redirect_uri"]) == (CLIENT_ID, f"{PUBLIC_URL}/oauth/callback")
    assert query["code_challenge_method"] == "S256"
    assert "optional_scope" not in query


async def test_two_starts_share_neither_state_nor_challenge(customer: Customer) -> None:
    first, second = [query_of(await customer.get("/oauth/install")) for _ in range(2)]
    assert first["state"] != second["state"]
    assert first["code_challenge"] != second["code_challenge"]


async def test_install_link_of_one_portal_authorises_that_portal(
    customer: Customer, store: PortalStore, hubspot: OAuthHubSpot
) -> None:
    start = await customer.get("/oauth/install?portalId=777")
    assert start.headers["Location"].startswith(f"{hubspot.url}/oauth/777/authorize?")
    assert (await customer.install("/oauth/install?portalId=777")).status == 200
    assert await store.get(777) is not None


async def test_several_installs_run_in_one_browser(
    customer: Customer, store: PortalStore, hubspot: OAuthHubSpot
) -> None:
    callbacks = []
    for portal_id in (11, 12, 13):
        hubspot.portal_id = portal_id
        callbacks.append(await customer.authorize())
    assert [(await customer.get(path)).status for path in callbacks] == [200, 200, 200]
    assert [portal.portal_id for portal in await store.list()] == [11, 12, 13]


async def test_second_install_of_a_portal_replaces_its_tokens(customer: Customer, store: PortalStore) -> None:
    await customer.install()
    await store.mark(PORTAL, PortalState.NEEDS_REINSTALL, "bad_refresh_token")
    first = await store.tokens(PORTAL)
    await customer.install()
    portal, second = await store.get(PORTAL), await store.tokens(PORTAL)
    assert portal is not None
    assert portal.state is PortalState.INSTALLED
    assert first != second


async def test_reinstall_ends_the_alert_of_its_portal_only(customer: Customer, redis: Redis) -> None:
    episodes = AlertEpisodes(redis)
    for portal_id in (PORTAL, 7):
        await episodes.set_state(Alert.NEEDS_REINSTALL, subject=portal_id, portal_id=portal_id, is_active=True)
    await customer.install()
    assert await episodes.active(Alert.NEEDS_REINSTALL) == ["needs_reinstall:7"]


async def test_install_is_audited_without_tokens(customer: Customer, redis: Redis, hubspot: OAuthHubSpot) -> None:
    await customer.install()
    await customer.install()
    first, second = await recorded(redis)
    assert (first.action, first.portal_id, first.actor) == ("portal.installed", PORTAL, "installer")
    assert first.detail == {"scopes": list(NEEDED), "by": "link"}
    assert second.detail["earlier_state"] == "installed"
    assert not any(token in str(first) for token in hubspot.tokens)


@pytest.mark.parametrize(
    ("public_url", "attributes"),
    [
        ("https://hooks.example.com", {"Secure", "HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=600"}),
        ("http://localhost:8080", {"HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=600"}),
    ],
)
async def test_cookie_is_bound_to_the_browser_and_sent_over_the_scheme_of_the_deployment(
    oauth_environ: dict[str, str], redis: Redis, public_url: str, attributes: set[str]
) -> None:
    async with running_console({**oauth_environ, "PUBLIC_URL": public_url}) as client:
        cookie = (await Customer(client).get("/oauth/install")).headers["Set-Cookie"]
    assert set(cookie.split("; ")[1:]) == attributes
    assert cookie.startswith("__Host-") == ("Secure" in attributes)


async def test_replayed_callback_is_refused(customer: Customer, hubspot: OAuthHubSpot) -> None:
    callback = await customer.authorize()
    assert (await customer.get(callback)).status == 200
    calls = len(hubspot.calls)
    assert await refused(await customer.get(callback), 400, "finished or refused already")
    assert len(hubspot.calls) == calls


async def test_callback_in_another_browser_is_refused(client: TestClient, customer: Customer) -> None:
    callback = await customer.authorize()
    victim = Customer(client)
    assert await refused(await victim.get(callback), 403, "another browser")
    await victim.authorize()
    assert await refused(await victim.get(callback), 403, "another browser")


async def test_expired_callback_is_refused(customer: Customer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spokes.console.installs.install_state.STATE_TTL_S", -1)
    assert await refused(await customer.install(), 400, "more than ten minutes ago")


FORGERIES: dict[str, Callable[[str], str]] = {
    "no state": lambda _: "",
    "an invented state": lambda _: "invented",
    "a state of another key": lambda state: state.rpartition(".")[0] + "." + "A" * 43,
    "an unsigned state": lambda state: "eyJhbGciOiJub25lIn0." + state.split(".")[1] + ".",
    "a shortened state": lambda state: state[:-2],
    "text that is not ASCII": lambda state: "%C3%A9" + state,
}


@pytest.mark.parametrize("name", FORGERIES)
async def test_callback_is_refused_for(customer: Customer, store: PortalStore, name: str) -> None:
    callback = urlsplit(await customer.authorize())
    query = {key: values[0] for key, values in parse_qs(callback.query).items()}
    forged = f"{callback.path}?code={query['code']}&state={FORGERIES[name](query['state'])}"
    assert await refused(await customer.get(forged), 403, "not started here")
    assert await store.list() == []


async def test_cancelled_install_is_refused_and_not_finished_later(customer: Customer, store: PortalStore) -> None:
    callback = await customer.authorize()
    state = parse_qs(urlsplit(callback).query)["state"][0]
    cancelled = await customer.get(f"/oauth/callback?error=access_denied&error_description=x&state={state}")
    assert await refused(cancelled, 400, "was cancelled at HubSpot")
    assert await refused(await customer.get(callback), 400, "finished or refused already")
    assert await store.list() == []


async def test_install_with_too_few_scopes_names_the_missing_ones(
    customer: Customer, store: PortalStore, hubspot: OAuthHubSpot
) -> None:
    hubspot.scopes = ["oauth", "crm.objects.contacts.read"]
    response = await customer.install()
    assert await refused(response, 403, "Missing:")
    assert "crm.objects.contacts.write" in await response.text()
    assert await store.list() == []


async def test_install_with_too_few_scopes_leaves_the_earlier_one(
    customer: Customer, store: PortalStore, hubspot: OAuthHubSpot
) -> None:
    await customer.install()
    before = await store.read(PORTAL)
    hubspot.scopes = ["oauth"]
    await customer.install()
    assert await store.read(PORTAL) == before


async def test_optional_scopes_are_asked_for_and_may_be_declined(
    oauth_environ: dict[str, str], redis: Redis, store: PortalStore
) -> None:
    optional = {"HUBSPOT_OPTIONAL_SCOPES": "automation,crm.objects.contacts.read"}
    async with running_console({**oauth_environ, **optional}) as client:
        customer = Customer(client)
        assert query_of(await customer.get("/oauth/install"))["optional_scope"] == "automation"
        response = await customer.install()
    assert "Not granted, and not needed: automation" in visible_text(await response.text())


async def test_install_of_another_portal_than_the_link_names_is_refused(
    customer: Customer, store: PortalStore, hubspot: OAuthHubSpot
) -> None:
    callback = await customer.authorize("/oauth/install?portalId=777")
    for code in hubspot.codes.values():
        code.portal_id = 778
    assert await refused(await customer.get(callback), 403, "link is for portal 777")
    assert await store.list() == []


async def test_install_of_a_portal_outside_portal_ids_is_refused(
    oauth_environ: dict[str, str], redis: Redis, store: PortalStore
) -> None:
    async with running_console({**oauth_environ, "PORTAL_IDS": "7"}) as client:
        assert await refused(await Customer(client).install(), 403, "PORTAL_IDS")
    assert await store.list() == []


async def test_tokens_of_another_app_are_refused(
    oauth_environ: dict[str, str], redis: Redis, store: PortalStore, hubspot: OAuthHubSpot
) -> None:
    async with running_console({**oauth_environ, "HUBSPOT_APP_ID": str(hubspot.app_id + 1)}) as client:
        assert await refused(await Customer(client).install(), 403, "another app")
    assert await store.list() == []


REFUSALS = {
    "BAD_AUTH_CODE": (400, "the code of this install"),
    "BAD_REDIRECT_URI": (400, f"{PUBLIC_URL}/oauth/callback"),
    "BAD_CODE_VERIFIER": (400, "not started here"),
    "BAD_SCOPES": (400, "spokes handlers"),
    "BAD_CLIENT_SECRET": (502, "HUBSPOT_CLIENT_SECRET"),
}


@pytest.mark.parametrize("code", REFUSALS)
async def test_refusal_of_hubspot_says_who_does_what(
    customer: Customer, store: PortalStore, hubspot: OAuthHubSpot, code: str
) -> None:
    hubspot.failures["token"] = [(400, {"error": "invalid_grant", "status": code})]
    assert await refused(await customer.install(), *REFUSALS[code])
    assert await store.list() == []


async def test_hubspot_that_does_not_answer_costs_the_install_only(customer: Customer, hubspot: OAuthHubSpot) -> None:
    hubspot.failures["token"] = [(429, {"status": "error"})]
    response = await customer.install()
    assert await refused(response, 503, "Start again in a few minutes")
    assert response.headers["Retry-After"] == "7"
    assert (await customer.install()).status == 200


async def test_short_outage_after_the_exchange_does_not_cost_the_install(
    customer: Customer, hubspot: OAuthHubSpot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spokes.console.installs.install_flow._RETRY_S", 0.0)
    hubspot.failures["introspect"] = [(503, {}), (502, {})]
    assert (await customer.install()).status == 200


async def test_store_that_restarts_after_the_exchange_does_not_cost_the_install(
    customer: Customer, store: PortalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spokes.console.installs.install_recorder._STORE_RETRY_S", 0.0)
    failures = iter(["get", "save_install", "save_install"])
    for name in ("get", "save_install"):
        fail_first(monkeypatch, name, failures)
    assert (await customer.install()).status == 200
    assert [portal.state for portal in await store.list()] == [PortalState.INSTALLED]
    assert next(failures, None) is None


async def test_head_request_does_not_use_the_code_up(client: TestClient, customer: Customer) -> None:
    callback = await customer.authorize()
    async with client.head(callback) as response:
        assert response.status == 405
    assert (await customer.get(callback)).status == 200


@pytest.mark.parametrize("path", ["/oauth/install", "/oauth/callback?code=x&state=y"])
async def test_deployment_without_an_app_has_no_installs(environ: dict[str, str], redis: Redis, path: str) -> None:
    async with running_console(environ) as client, client.get(path, allow_redirects=False) as response:
        assert (response.status, response.content_type) == (404, "text/html")
        assert "no app that can be installed" in await response.text()


async def test_callbacks_are_throttled_by_network(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    freeze_rate_limit_window(monkeypatch)
    statuses = [(await Customer(client).get("/oauth/callback?code=x&state=y")).status for _ in range(601)]
    assert statuses == [403] * 600 + [429]


async def test_secrets_of_an_install_are_in_no_log_and_no_key_of_redis(
    customer: Customer, redis: Redis, hubspot: OAuthHubSpot, capsys: pytest.CaptureFixture[str]
) -> None:
    callback = await customer.authorize()
    [code] = hubspot.codes
    await customer.get(callback)
    await customer.get(callback)
    tokens = list(hubspot.tokens)
    verifier = hubspot.calls[0][1]["code_verifier"]
    output = capsys.readouterr()
    dump = output.out + output.err
    async for key in redis.scan_iter():
        dump += key.decode() + str(await redis.dump(key))
    assert "portal_installed" in dump
    assert [secret for secret in (code, verifier, *tokens) if secret in dump] == []
