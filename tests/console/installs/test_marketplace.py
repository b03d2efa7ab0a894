"""Installs that HubSpot's marketplace starts, and the addresses that it may name."""

from urllib.parse import parse_qs, quote, urlsplit

import pytest
from redis.asyncio import Redis

from spokes.portals.store import PortalStore
from tests.console.installs.conftest import Customer
from tests.console.installs.test_install_flow import NEEDED, refused
from tests.support.deployment import PUBLIC_URL
from tests.support.events import recorded
from tests.support.hubspot.oauth_hubspot import PORTAL, OAuthHubSpot

BACK = "https://app-na2.hubspot.com/marketplace/install?app=7"
QUOTED = quote(BACK, safe="")
HERE = f"{PUBLIC_URL}/oauth/install"


async def start(customer: Customer) -> str:
    """Start an install as the marketplace does; return the state."""
    response = await customer.get(f"/oauth/install?step=authorize&returnUrl={QUOTED}")
    assert response.headers["Location"].startswith(f"{BACK}&state=")
    return parse_qs(urlsplit(response.headers["Location"]).query)["state"][0]


async def test_marketplace_install_returns_to_hubspot(
    customer: Customer, store: PortalStore, redis: Redis, hubspot: OAuthHubSpot
) -> None:
    state, code = await start(customer), hubspot.issue_code(HERE, list(NEEDED))
    response = await customer.get(f"/oauth/install?step=finalize&code={code}&state={state}&returnUrl={QUOTED}")
    assert (response.status, response.headers["Location"]) == (303, BACK)
    assert await store.get(PORTAL) is not None
    assert [record.detail["by"] for record in await recorded(redis)] == ["marketplace"]


async def test_marketplace_install_without_sign_in_needs_no_state(
    customer: Customer, store: PortalStore, hubspot: OAuthHubSpot
) -> None:
    code = hubspot.issue_code(HERE, list(NEEDED))
    response = await customer.get(f"/oauth/install?code={code}&returnUrl={QUOTED}")
    assert (response.status, response.headers["Location"]) == (303, BACK)
    assert await store.get(PORTAL) is not None


async def test_cookie_of_a_marketplace_install_is_sent_from_a_frame(customer: Customer) -> None:
    response = await customer.get(f"/oauth/install?step=authorize&returnUrl={QUOTED}")
    assert {"Secure", "HttpOnly", "SameSite=None"} <= set(response.headers["Set-Cookie"].split("; "))


@pytest.mark.parametrize("query", ["step=finalize", "step=finalize&state=x", "state=x", "state="])
async def test_marketplace_install_with_a_forged_state_is_refused(
    customer: Customer, store: PortalStore, hubspot: OAuthHubSpot, query: str
) -> None:
    await start(customer)
    code = hubspot.issue_code(HERE, list(NEEDED))
    response = await customer.get(f"/oauth/install?{query}&code={code}&returnUrl={QUOTED}")
    assert await refused(response, 403, "not started here")
    assert await store.list() == []


async def test_replayed_marketplace_state_is_refused(customer: Customer, hubspot: OAuthHubSpot) -> None:
    state = await start(customer)
    codes = [hubspot.issue_code(HERE, list(NEEDED)) for _ in range(2)]
    paths = [f"/oauth/install?step=finalize&code={code}&state={state}&returnUrl={QUOTED}" for code in codes]
    assert [(await customer.get(path)).status for path in paths] == [303, 400]


async def test_marketplace_state_does_not_finish_a_callback(customer: Customer, hubspot: OAuthHubSpot) -> None:
    state, code = await start(customer), hubspot.issue_code(f"{PUBLIC_URL}/oauth/callback", list(NEEDED))
    assert await refused(await customer.get(f"/oauth/callback?code={code}&state={state}"), 403, "another way")


async def test_code_of_a_callback_is_not_accepted_from_the_marketplace(customer: Customer, store: PortalStore) -> None:
    code = parse_qs(urlsplit(await customer.authorize()).query)["code"][0]
    response = await customer.get(f"/oauth/install?code={code}&returnUrl={QUOTED}")
    assert response.status == 400
    assert await store.list() == []


async def test_install_goes_back_to_the_page_of_hubspot_that_it_came_from(customer: Customer) -> None:
    response = await customer.install(f"/oauth/install?returnUrl={QUOTED}")
    assert (response.status, response.headers["Location"]) == (303, BACK)


ACCEPTED = ["https://app.hubspot.com/a", "https://app-eu1.hubspot.com", "https://APP.hubspot.com:443/x?y=%20z"]
REFUSED = [
    "https://evil.example/", "http://app.hubspot.com/", "https://app.hubspot.com.evil.example/",
    "https://evilapp.hubspot.com/", "https://app.hubspot.com@evil.example/", "https://app.hubspot.com:8443/",
    "https://user@app.hubspot.com/", "//app.hubspot.com/", "/console", "javascript:alert(1)",
    "https://evil.example\\@app.hubspot.com/", "https://app.hubspot.com\\.evil.example/", "https://app.hubspot.com/#x",
    "https://app.hubspot.com/\r\nSet-Cookie: a=b", "https://app.hubspot.com\t/", "https://community.hubspot.com/",
    "https://app-.hubspot.com/", "https://app-na1.evil.hubspot.com/", "https://app.hubspot.com/\u00e9",
    "https://app.hubspot.com/" + "a" * 1000, "https://app.hubspot.com%2Fevil.example/", "https://[::1]/", "https://[",
]  # fmt: skip


@pytest.mark.parametrize("url", ACCEPTED)
async def test_page_of_hubspot_is_accepted_as_return_address(customer: Customer, url: str) -> None:
    response = await customer.get(f"/oauth/install?step=authorize&returnUrl={quote(url, safe='')}")
    assert response.status == 303
    assert response.headers["Location"].startswith(url)


@pytest.mark.parametrize("step", ["", "step=authorize&", "step=finalize&code=x&state=y&", "code=x&"])
@pytest.mark.parametrize("url", REFUSED)
async def test_address_that_is_not_hubspots_is_refused(customer: Customer, url: str, step: str) -> None:
    response = await customer.get(f"/oauth/install?{step}returnUrl={quote(url, safe='')}")
    assert (response.status, response.headers.get("Location")) == (400, None)
    assert "evil" not in await response.text()


async def test_return_address_of_the_configured_hubspot_is_accepted(customer: Customer, hubspot: OAuthHubSpot) -> None:
    back = f"{hubspot.url}/marketplace"
    response = await customer.install(f"/oauth/install?returnUrl={quote(back, safe='')}")
    assert response.headers["Location"] == back
