"""*Portals* and the page of one portal, over real HTTP."""

import time

import pytest
from aiohttp.test_utils import TestClient
from pydantic import SecretStr
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.console.accounts.policy import Role
from spokes.core import clock
from spokes.core.redis import keys
from spokes.portals.store import REFRESH_INTERRUPTED, PortalState, PortalStore
from spokes.portals.tokens import Tokens
from spokes.queue.pauses.portal_pauses import PortalPauses
from tests.console.installs.conftest import Customer
from tests.console.installs.test_install_flow import NEEDED
from tests.support.console_visitor import HOSTILE_HTML, Visitor, archive, running_console, visible_text
from tests.support.events import record
from tests.support.hubspot.oauth_hubspot import PORTAL, OAuthHubSpot


async def install(store: PortalStore, *portal_ids: int, name: str = "", scopes: tuple[str, ...] = NEEDED) -> None:
    for portal_id in portal_ids:
        tokens = Tokens(SecretStr(f"a-{portal_id}"), SecretStr(f"r-{portal_id}"), clock.now_ms() + 1_800_000)
        await store.save_install(portal_id, tokens, scopes, name=name)


async def listed(visitor: Visitor, **query: str) -> list[int]:
    """Return the portals on the page, in its order."""
    status, page = await visitor.get("/console/portals", **query)
    assert status == 200
    return [int(part.partition('"')[0]) for part in page.split('href="/console/portals/')[1:]]


async def test_page_shows_state_scopes_backlog_and_dead_letters(
    client: TestClient, store: PortalStore, redis: Redis, sqlite_engine: AsyncEngine
) -> None:
    await install(store, 11, name="Nordlys AS", scopes=("oauth",))
    later = clock.now_ms() + 3_600_000
    await redis.zadd(keys.QUEUES["interactive"], {"11-1-a": later, "11-1-b": later, "12-1-c": 3, "11-1-d": later})
    await redis.zadd(keys.parked_deliveries(11), {"11-1-d": 1})
    await redis.zadd(keys.dead_letters_by_time(11), {"k": 1})
    seen = record(portal_id=11)
    await archive(redis, sqlite_engine, seen)
    _, page = await (await Visitor.signed_in(client, Role.VIEWER)).get("/console/portals")
    text = visible_text(page)
    assert "1 installed the app" in text
    shown_at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seen.at / 1000))
    assert f"11 Nordlys AS installed scopes missing {shown_at} 3 - 0 of 110 1" in text


async def test_lag_is_for_how_long_the_first_delivery_has_been_due(
    client: TestClient, store: PortalStore, redis: Redis
) -> None:
    await install(store, 11, 12)
    due = clock.now_ms() - 7_200_000
    await redis.zadd(keys.QUEUES["import"], {"12-1-a": due, "12-1-b": due + 60_000})
    visitor = await Visitor.signed_in(client, Role.VIEWER)
    assert await listed(visitor, sort="lag") == [12, 11]
    assert "2 h" in visible_text((await visitor.get("/console/portals/12"))[1])


async def test_backlog_of_one_portal_hides_no_other(client: TestClient, store: PortalStore, redis: Redis) -> None:
    await install(store, 11, 12)
    await redis.zadd(keys.QUEUES["interactive"], {f"11-1-{number}": 1 for number in range(25_000)})
    await redis.zadd(keys.QUEUES["interactive"], {"12-1-a": 2})
    visitor = await Visitor.signed_in(client, Role.VIEWER)
    text = visible_text((await visitor.get("/console/portals", sort="backlog"))[1])
    assert "25,000" in text
    assert await listed(visitor, q="12") == [12]
    assert "Waiting deliveries 1" in visible_text((await visitor.get("/console/portals/12"))[1])


async def test_portal_whose_refresh_was_interrupted_says_so(client: TestClient, store: PortalStore) -> None:
    await install(store, 11, 12)
    await store.mark(11, PortalState.NEEDS_REINSTALL, "bad_refresh_token")
    await store.mark(12, PortalState.NEEDS_REINSTALL, REFRESH_INTERRUPTED)
    visitor = await Visitor.signed_in(client, Role.VIEWER)
    texts = [visible_text((await visitor.get(f"/console/portals/{portal_id}"))[1]) for portal_id in (11, 12)]
    assert ["whose answer did not arrive" in text for text in texts] == [False, True]


async def test_dead_letters_of_many_portals_are_counted_each(
    client: TestClient, store: PortalStore, redis: Redis
) -> None:
    await install(store, *range(1000, 1520))
    for portal_id, count in ((1000, 1), (1499, 2), (1500, 3), (1519, 4)):
        await redis.zadd(keys.dead_letters_by_time(portal_id), {f"k{number}": 1 for number in range(count)})
    await redis.set(keys.dead_letters_by_time(1001), "a value of another program")
    visitor = await Visitor.signed_in(client, Role.VIEWER)
    assert (await listed(visitor, sort="dead_letters"))[:5] == [1519, 1500, 1499, 1000, 1001]


async def test_portals_are_filtered_and_sorted(client: TestClient, store: PortalStore, redis: Redis) -> None:
    await install(store, 11, 12, 13)
    await store.save_install(14, Tokens(SecretStr("a"), SecretStr("r"), 0), ["oauth"], name="Nordlys")
    await store.mark(12, PortalState.NEEDS_REINSTALL, "bad_refresh_token")
    await PortalPauses(redis).operator_pause(13, actor="ada", reason="x", is_known=True)
    await redis.zadd(keys.dead_letters_by_time(13), {"k": 1})
    visitor = await Visitor.signed_in(client, Role.VIEWER)
    assert await listed(visitor) == [11, 12, 13, 14]
    assert await listed(visitor, state="needs_reinstall") == [12]
    assert await listed(visitor, state="paused") == [13]
    assert await listed(visitor, state="installed") == [11, 14]
    assert await listed(visitor, state="missing_scopes") == [14]
    assert await listed(visitor, q="nord") == [14]
    assert await listed(visitor, q="1") == [11, 12, 13, 14]
    assert await listed(visitor, sort="dead_letters") == [13, 11, 12, 14]
    assert await listed(visitor, state="x", sort="y", page="9") == [11, 12, 13, 14]


async def test_thousands_of_portals_are_shown_in_pages(client: TestClient, store: PortalStore) -> None:
    await install(store, *range(1, 251))
    visitor = await Visitor.signed_in(client, Role.VIEWER)
    pages = [await listed(visitor, page=str(number)) for number in (1, 2, 3)]
    assert [number for page in pages for number in page] == list(range(1, 251))
    assert "Page 2 of 3" in visible_text((await visitor.get("/console/portals", page="2"))[1])


@pytest.mark.parametrize("query", [{"page": "x"}, {"page": "-1"}, {"page": "9" * 30}])
async def test_malformed_page_number_is_refused(client: TestClient, query: dict[str, str]) -> None:
    assert (await (await Visitor.signed_in(client, Role.VIEWER)).get("/console/portals", **query))[0] == 400


async def test_account_limited_to_a_portal_sees_only_that_one(client: TestClient, store: PortalStore) -> None:
    await install(store, 11, 12)
    visitor = await Visitor.signed_in(client, *Role, portals=[12])
    assert await listed(visitor) == [12]
    assert (await visitor.get("/console/portals/11"))[0] == 404
    response = await visitor.post("/console/portals/11/disconnect", {"portal": "11", "reason": "x"})
    assert response.status == 404


async def test_names_are_escaped(client: TestClient, store: PortalStore) -> None:
    await install(store, 11, name=HOSTILE_HTML)
    visitor = await Visitor.signed_in(client, Role.ADMIN)
    for path in ("/console/portals", "/console/portals/11"):
        assert HOSTILE_HTML not in (await visitor.get(path, q=""))[1]
    assert HOSTILE_HTML not in (await visitor.get("/console/portals", q=HOSTILE_HTML))[1]


@pytest.mark.parametrize("role", Role)
async def test_only_an_admin_disconnects(client: TestClient, customer: Customer, role: Role) -> None:
    await customer.install()
    visitor = await Visitor.signed_in(client, role)
    shows_form = f"/console/portals/{PORTAL}/disconnect" in (await visitor.get(f"/console/portals/{PORTAL}"))[1]
    response = await visitor.post(
        f"/console/portals/{PORTAL}/disconnect", {"portal": str(PORTAL), "reason": "contract ended"}
    )
    assert (shows_form, response.status) == ((True, 200) if role is Role.ADMIN else (False, 403))


async def test_disconnecting_needs_the_id_and_a_reason(
    client: TestClient, customer: Customer, store: PortalStore, hubspot: OAuthHubSpot
) -> None:
    await customer.install()
    visitor, path = await Visitor.signed_in(client, Role.ADMIN), f"/console/portals/{PORTAL}/disconnect"
    for form in ({"portal": "1", "reason": "x"}, {"portal": str(PORTAL), "reason": " "}, {"reason": "x"}):
        assert (await visitor.post(path, form)).status == 422
    portal = await store.get(PORTAL)
    assert portal is not None
    assert portal.state is PortalState.INSTALLED
    response = await visitor.post(path, {"portal": str(PORTAL), "reason": "x"})
    assert f"Portal {PORTAL} is disconnected" in visible_text(await response.text())
    assert hubspot.tokens == {}


async def test_deployment_without_an_app_explains_how_to_have_one(
    environ: dict[str, str], redis: Redis, store: PortalStore
) -> None:
    async with running_console(environ) as client:
        visitor = await Visitor.signed_in(client, Role.VIEWER)
        assert "HUBSPOT_CLIENT_ID" in (await visitor.get("/console/portals"))[1]
        assert ">Portals</a>" not in (await visitor.get("/console"))[1]
