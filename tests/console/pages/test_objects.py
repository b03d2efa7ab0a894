"""The page *Object*, over real HTTP."""

from aiohttp.test_utils import TestClient
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.records import Action
from spokes.console.accounts.policy import Role
from tests.support.console_visitor import HOSTILE_HTML, Visitor, archive
from tests.support.events import record

PORTAL = 50112233


async def test_empty_search_explains_the_page(client: TestClient) -> None:
    status, page = await (await Visitor.signed_in(client, Role.VIEWER)).get("/console/object")
    assert status == 200
    assert "keeps only a count" in page


async def test_invalid_reference_is_explained_and_escaped(client: TestClient) -> None:
    status, page = await (await Visitor.signed_in(client, Role.VIEWER)).get("/console/object", q=HOSTILE_HTML)
    assert status == 422
    assert "This is not a reference to a CRM object" in page
    assert "<script>a" not in page
    assert "<img src=x" not in page


async def test_link_shows_the_timeline(client: TestClient, redis: Redis, sqlite_engine: AsyncEngine) -> None:
    write = {"method": "contacts.update", "properties": [HOSTILE_HTML], "ok": True}
    await archive(
        redis, sqlite_engine, record(1), record(1, id="w", action=Action.CRM_WRITE, outcome=None, detail=write)
    )
    link = f"https://app.hubspot.com/contacts/{PORTAL}/record/0-1/318845120001"
    status, page = await (await Visitor.signed_in(client, Role.VIEWER)).get("/console/object", q=link)
    assert status == 200
    assert "Processed" in page
    assert "Wrote to HubSpot: contacts.update (&lt;script&gt;" in page
    assert "<script>a" not in page


async def test_older_records_are_on_the_next_page(client: TestClient, redis: Redis, sqlite_engine: AsyncEngine) -> None:
    await archive(redis, sqlite_engine, *(record(1, id=f"{at:04}", at=1_000 + at) for at in range(201)))
    viewer = await Visitor.signed_in(client, Role.VIEWER)
    _, first = await viewer.get("/console/object", q="318845120001")
    after = first.partition("&amp;after=")[2].partition('"')[0]
    _, second = await viewer.get("/console/object", q="318845120001", after=after)
    assert [page.count("<time") for page in (first, second)] == [200, 1]
    assert ["Older records" in page for page in (first, second)] == [True, False]


async def test_edited_cursor_redirects_to_the_newest_records(
    client: TestClient, redis: Redis, sqlite_engine: AsyncEngine
) -> None:
    await archive(redis, sqlite_engine, record(1))
    viewer = await Visitor.signed_in(client, Role.VIEWER)
    status, _ = await viewer.get("/console/object", q="318845120001", after="x")
    assert status == 302


async def test_object_of_another_portal_is_not_shown(
    client: TestClient, redis: Redis, sqlite_engine: AsyncEngine
) -> None:
    await archive(redis, sqlite_engine, record(1))
    _, page = await (await Visitor.signed_in(client, Role.VIEWER, portals=[7])).get("/console/object", q="318845120001")
    assert "No records of this object" in page


async def test_unmigrated_store_is_503_with_advice(client: TestClient) -> None:
    status, page = await (await Visitor.signed_in(client, Role.VIEWER)).get("/console/object", q="318845120001")
    assert status == 503
    assert "spokes doctor" in page
