"""The page *Incidents*, over real HTTP, with a real store."""

import re
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.direct_records import DirectRecords
from spokes.audit.incidents.bundle_file import verify_bundle
from spokes.audit.incidents.incident import Incident
from spokes.audit.incidents.incident_store import IncidentStore, find_notes, list_incidents
from spokes.audit.records import Action
from spokes.audit.sql.queries import Filters, find_records
from spokes.console.accounts.policy import Role
from spokes.console.accounts.sessions import COOKIE
from spokes.core.clock import now_ms
from tests.support.console_visitor import HOSTILE_HTML, Visitor, archive, visible_text
from tests.support.deployment import KEY, TOKEN
from tests.support.events import record

PORTAL = 50112233
HOUR = 3_600_000
FINGERPRINT = "0123456789abcdef"
PATH = "/console/incidents"

pytestmark = pytest.mark.usefixtures("migrated_store")


async def opened(engine: AsyncEngine, title: str = "Token leaked", *, hours_ago: int = 0) -> str:
    """Store an open incident; return its id."""
    incident = Incident(title=title, aware_at=now_ms() - hours_ago * HOUR, opened_by="ada", since=0)
    await IncidentStore(engine, DirectRecords(KEY, 1000), "ada").open(incident)
    return incident.id


async def officer(client: TestClient) -> Visitor:
    return await Visitor.signed_in(client, Role.PRIVACY_OFFICER)


async def test_empty_page_is_explained(client: TestClient) -> None:
    assert "There are no open incidents" in (await (await officer(client)).get(PATH))[1]


async def test_most_urgent_incident_comes_first_with_its_clock(client: TestClient, sqlite_engine: AsyncEngine) -> None:
    await opened(sqlite_engine, HOSTILE_HTML, hours_ago=71)
    await opened(sqlite_engine, "late", hours_ago=80)
    _, page = await (await officer(client)).get(PATH)
    text = visible_text(page)
    assert text.index("OVERDUE by 8 h") < text.index("0 h 59 min left")
    assert "<script>a" not in page


async def test_incident_is_opened_by_a_form_and_narrowed_to_a_token(
    client: TestClient, redis: Redis, sqlite_engine: AsyncEngine
) -> None:
    token = {"token_fingerprint": FINGERPRINT}
    used, other = record(1, object_id="51", detail=token), record(2, object_id="52")
    await archive(redis, sqlite_engine, used, other)
    visitor = await officer(client)
    form = {"title": f"{TOKEN} of ada@example.com", "aware": "2h", "since": "1970-01-01", "token": FINGERPRINT}
    response = await visitor.post(PATH, form)
    [incident] = await list_incidents(sqlite_engine)
    assert (response.status, response.headers["Location"]) == (303, f"{PATH}/{incident.id}")
    assert (incident.opened_by, incident.token, incident.since) == ("ada", FINGERPRINT, 0)
    assert TOKEN not in incident.title
    assert "ada@example.com" not in incident.title
    text = visible_text((await visitor.get(response.headers["Location"]))[1])
    assert ("contact 51" in text, "contact 52" in text, "69 h 59 min left" in text) == (True, False, True)


async def test_incident_is_noted_notified_and_closed(client: TestClient, sqlite_engine: AsyncEngine) -> None:
    id_, visitor = await opened(sqlite_engine, hours_ago=3), await officer(client)
    for action, form in (
        ("note", {"text": "first line\nsecond line"}),
        ("note", {"text": "Reported", "notified": "1", "at": "1h"}),
        ("close", {"text": "No misuse"}),
    ):
        response = await visitor.post(f"{PATH}/{id_}/{action}", form)
        assert (response.status, response.headers["Location"]) == (303, f"{PATH}/{id_}")
    text = visible_text((await visitor.get(f"{PATH}/{id_}"))[1])
    notes = await find_notes(sqlite_engine, id_)
    assert [(note.author, note.text) for note in notes] == [
        ("ada", "first line\nsecond line"), ("ada", "Reported"), ("ada", "No misuse"),
    ]  # fmt: skip
    assert "notified in time, 2 h 0 min in" in text or "notified in time, 1 h 59 min in" in text
    assert "Closed" in text
    assert "Close the incident" not in text


async def test_each_change_is_audited_with_actor_and_address(client: TestClient, sqlite_engine: AsyncEngine) -> None:
    visitor = await officer(client)
    location = (await visitor.post(PATH, {"title": "Leak"})).headers["Location"]
    for action in ("note", "export", "close"):
        await visitor.post(f"{location}/{action}", {"text": "done"})
    rows = [row async for row in find_records(sqlite_engine, Filters(actor="ada"))]
    assert [row["action"] for row in rows] == [
        Action.INCIDENT_OPENED, Action.INCIDENT_NOTED, Action.INCIDENT_EXPORTED, Action.INCIDENT_CLOSED,
    ]  # fmt: skip
    assert all('"address":"127.0.0.1"' in str(row["detail"]) for row in rows)


async def test_bundle_is_downloaded_and_verifies(
    client: TestClient, redis: Redis, sqlite_engine: AsyncEngine, tmp_path: Path
) -> None:
    await archive(redis, sqlite_engine, record(1, object_id="51"))
    id_, visitor = await opened(sqlite_engine), await officer(client)
    headers = {"Cookie": f"{COOKIE}={visitor.cookie}", "Sec-Fetch-Site": "same-origin"}
    async with client.post(f"{PATH}/{id_}/export", data={"csrf": visitor.csrf}, headers=headers) as response:
        contents = await response.read()
    (tmp_path / "bundle.zip").write_bytes(contents)
    result = verify_bundle(tmp_path / "bundle.zip", KEY)
    assert (response.status, response.content_type, result.problem, result.incident) == (
        200,
        "application/zip",
        "",
        id_,
    )
    assert re.fullmatch(rf'attachment; filename="incident-{id_}-\d+T\d+Z.zip"', response.headers["Content-Disposition"])
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "form", "sentence"),
    [
        ("", {"title": " "}, "The title is empty"),
        ("", {"title": "x" * 201}, "200 are allowed"),
        ("", {"title": "x", "aware": "yesterday"}, "Aware is not a time"),
        ("", {"title": "x", "aware": "9" * 5000}, "Aware is not a time"),
        ("", {"title": "x", "aware": "2099-01-01"}, "in the future"),
        ("", {"title": "x", "since": "2026-01-02", "until": "2026-01-01"}, "ends before it begins"),
        ("", {"title": "x", "token": "pat-1"}, "not a fingerprint"),
        ("/note", {"text": ""}, "The note is empty"),
        ("/note", {"text": "x" * 10_001}, "10,000 are allowed"),
        ("/note", {"text": "x", "notified": "1", "at": "2099-01-01"}, "in the future"),
        ("/close", {"text": ""}, "The note is empty"),
    ],
)
async def test_wrong_form_changes_nothing_and_says_why(
    client: TestClient, sqlite_engine: AsyncEngine, path: str, form: dict[str, str], sentence: str
) -> None:
    id_, visitor = await opened(sqlite_engine), await officer(client)
    response = await visitor.post(f"{PATH}/{id_}{path}" if path else PATH, form)
    assert (response.status, sentence in await response.text()) == (422, True), await response.text()
    [incident] = await list_incidents(sqlite_engine)
    assert (incident.id, incident.closed_at, await find_notes(sqlite_engine, id_)) == (id_, None, ())


@pytest.mark.parametrize("overrides", [{"csrf": "0" * 64}, {"site": "cross-site"}])
@pytest.mark.parametrize("path", ["", "/note", "/close", "/export"])
async def test_form_of_another_site_is_refused(
    client: TestClient, sqlite_engine: AsyncEngine, path: str, overrides: dict[str, str]
) -> None:
    id_, visitor = await opened(sqlite_engine), await officer(client)
    form = {"title": "x", "text": "x"}
    response = await visitor.post(f"{PATH}/{id_}{path}" if path else PATH, form, **overrides)
    assert response.status == 403
    assert len(await list_incidents(sqlite_engine)) == 1


async def test_actor_of_some_portals_sees_and_changes_no_incident(
    client: TestClient, sqlite_engine: AsyncEngine
) -> None:
    id_ = await opened(sqlite_engine)
    visitor = await Visitor.signed_in(client, Role.ADMIN, portals=[PORTAL])
    status, page = await visitor.get(PATH)
    assert (status, id_ in page, "Incidents concern all portals" in page) == (200, False, True)
    assert (await visitor.get(f"{PATH}/{id_}"))[0] == 404
    for path in ("", f"/{id_}/note", f"/{id_}/close", f"/{id_}/export"):
        assert (await visitor.post(PATH + path, {"title": "x", "text": "x"})).status == 403
    assert [each.title for each in await list_incidents(sqlite_engine)] == ["Token leaked"]


@pytest.mark.parametrize("action", ["note", "close", "export"])
async def test_unknown_incident_is_named(client: TestClient, action: str) -> None:
    response = await (await officer(client)).post(f"{PATH}/0123abcd/{action}", {"text": "x"})
    assert (response.status, "There is no incident" in await response.text()) == (422, True)
    assert (await (await officer(client)).get(f"{PATH}/0123abcd"))[0] == 404
