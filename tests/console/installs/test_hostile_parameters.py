"""Any parameters of an install are refused in a sentence: no server error, no stored install, no redirect elsewhere."""

import random
from urllib.parse import quote

import pytest
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis

from spokes.portals.store import PortalStore
from tests.console.installs.conftest import Customer
from tests.support.console_visitor import HOSTILE_HTML
from tests.support.hubspot.oauth_hubspot import OAuthHubSpot

NAMES = ("code", "state", "error", "error_description", "step", "returnUrl", "portalId", "scope", "iss", "\u0430")
TEXTS = (
    "", "0", "-1", "1" * 30, "9" * 16, "\u0661", "authorize", "finalize", "access_denied", "\x00", "\r\nSet-Cookie: a",
    HOSTILE_HTML, "a" * 5000, "https://evil.example/", "//evil.example", "https://app.hubspot.com", "null", "[]", "{}",
    "\U0001f600", "eyJhbGciOiJub25lIn0.e30.", "eyJhbGciOiJIUzI1NiJ9.e30.AAAA", "..", "%00", "' OR 1=1 --", "\ud800",
)  # fmt: skip


def random_query(chance: random.Random, state: str, code: str) -> str:
    """Return a query of one to six parameters; some carry the valid state or code."""
    pairs = []
    for _ in range(chance.randint(1, 6)):
        name, text = chance.choice(NAMES), chance.choice((*TEXTS, state, code, state[: chance.randrange(len(state))]))
        encoded = quote(text.encode(errors="surrogatepass"), safe="")
        pairs.append(f"{quote(name)}={encoded}" if chance.random() > 0.05 else encoded + "=%ff")
    return "&".join(pairs)


@pytest.mark.parametrize("path", ["/oauth/callback", "/oauth/install"])
@pytest.mark.parametrize("seed", range(4))
async def test_random_parameters_are_refused_or_start_an_install(
    client: TestClient, store: PortalStore, redis: Redis, hubspot: OAuthHubSpot, path: str, seed: int
) -> None:
    chance = random.Random(seed)
    allowed = (f"{hubspot.url}/oauth/", "https://app.hubspot.com")
    for _ in range(60):
        customer = Customer(client)
        callback = await customer.authorize()
        code, state = callback.partition("code=")[2].split("&state=")
        query = random_query(chance, state, code)
        if path == "/oauth/callback" and f"code={code}" in query and f"state={state}" in query:
            continue  # it is valid
        response = await customer.get(f"{path}?{query}")
        location = response.headers.get("Location", allowed[0])
        assert response.status in {303, 400, 403}, query
        assert location.startswith(allowed), query
        assert HOSTILE_HTML not in await response.text(), query
    assert await store.list() == []


@pytest.mark.parametrize("cookie", ["", "x", "a" * 43, "\u00e9", ";;", "a" * 7000])
async def test_cookie_of_another_browser_finishes_no_install(
    client: TestClient, customer: Customer, store: PortalStore, cookie: str
) -> None:
    callback = await customer.authorize()
    async with client.get(
        callback, headers={"Cookie": f"__Host-spokes-install={cookie}"}, allow_redirects=False
    ) as response:
        assert response.status in {400, 403}
    assert await store.list() == []
