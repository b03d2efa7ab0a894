"""The pages Now, Object and Dead letters over real HTTP, without a browser."""

import orjson
import pytest
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.records import Action
from spokes.console.accounts.policy import Role
from spokes.console.accounts.sessions import COOKIE
from spokes.console.pages.dashboard import DASHBOARD_CACHE, Dashboard, draw_chart, round_up
from spokes.console.web.app_keys import SESSIONS
from spokes.console.web.template_filters import count, duration
from spokes.core.delivery import Entry
from spokes.core.errors import CRMUnavailable
from spokes.core.telemetry import metric_history as minutes
from spokes.core.telemetry.metric_history import Snapshot
from spokes.core.telemetry.metric_totals import sample_key
from spokes.core.telemetry.metrics import EVENTS
from spokes.queue.dead_letters import DeadLetter, DeadLetters
from tests.support.console_visitor import Visitor, archive, visible_text
from tests.support.events import event, record, recorded, store_dead_letters

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
PORTAL = 50112233


async def store_letter(redis: Redis, number: int, reason: str = "object_not_found", **raw: object) -> DeadLetter:
    entry = Entry(f"{number:032x}", 3, event(number, **raw))
    letter = DeadLetter(PORTAL, "d", entry, reason, "contacts.on_creation", 1_795_442_400_000 + number)
    await store_dead_letters(redis, letter)
    return letter


async def fail(*_: object) -> Dashboard:
    raise CRMUnavailable


def form_value(letter: DeadLetter) -> str:
    return f"{letter.portal_id}:{letter.entry.key}"


def path_of(letter: DeadLetter) -> str:
    return f"/console/dead/{letter.portal_id}/{letter.entry.key}"


class TestChart:
    @pytest.mark.parametrize(("value", "top"), [(0, 10), (10, 10), (11, 20), (49, 50), (501, 1000), (1000, 1000)])
    def test_axis_ends_on_a_round_number(self, value: float, top: float) -> None:
        assert round_up(value) == top

    def test_highest_value_is_inside_the_chart(self) -> None:
        assert draw_chart([0, 10], [5, 5]).lines == ("M0.00,100.00 L100.00,0.00", "M0.00,50.00 L100.00,50.00")

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (None, "-"),
            (0.42, "0.4 s"),
            (59.6, "1 min 0 s"),
            (125, "2 min 5 s"),
            (7_300, "2 h 1 min"),
            (90_000, "1 d 1 h"),
        ],
    )
    def test_duration_is_shown_in_two_units(self, seconds: float | None, text: str) -> None:
        assert duration(seconds) == text

    def test_small_counts_have_a_decimal_and_large_ones_none(self) -> None:
        assert [count(0), count(1.25), count(12_345.6)] == ["0", "1.2", "12,346"]


class TestNow:
    async def test_page_works_without_any_data(self, client: TestClient) -> None:
        status, page = await (await Visitor.signed_in(client, Role.VIEWER)).get("/console")
        assert status == 200
        assert "No active alerts" in page
        assert "A worker stores the counts once a minute" in page

    async def test_rates_are_drawn(self, client: TestClient, redis: Redis) -> None:
        for at in range(3):
            await minutes.append_snapshot(
                redis, Snapshot(at * 60_000, {sample_key(EVENTS, result="admitted"): at * 120.0})
            )
        _, page = await (await Visitor.signed_in(client, Role.VIEWER)).get("/console")
        assert 'class="line in" d="M0.00,' in page

    async def test_rates_are_hidden_from_actors_of_some_portals(self, client: TestClient) -> None:
        _, page = await (await Visitor.signed_in(client, Role.VIEWER, portals=[7])).get("/console")
        assert "Counts have no portal" in page

    async def test_alert_is_shown_escaped(self, client: TestClient, redis: Redis) -> None:
        await redis.hset("spokes:alerts", f"{EVIL}:of", orjson.dumps({"since": 1, "portal_id": 7}))
        _, page = await (await Visitor.signed_in(client, Role.VIEWER)).get("/console")
        assert "alert(1)" in visible_text(page)
        assert "<script>a" not in page

    async def test_live_stream_has_security_headers_and_ends_with_the_session(self, client: TestClient) -> None:
        visitor = await Visitor.signed_in(client, Role.VIEWER)
        async with client.get("/console/now/live", headers={"Cookie": f"{COOKIE}={visitor.cookie}"}) as response:
            assert response.content_type == "text/event-stream"
            assert "Content-Security-Policy" in response.headers
            kind, data = await response.content.readline(), await response.content.readline()
            await client.server.app[SESSIONS].end_all("ada")
            rest = await response.content.read()
        assert kind == b"event: parts\n"
        assert "Backlog" in orjson.loads(data.removeprefix(b"data: "))["figures"]
        assert rest == b"\n"

    async def test_live_streams_end_at_shutdown(self, client: TestClient) -> None:
        visitor = await Visitor.signed_in(client, Role.VIEWER)
        async with client.get("/console/now/live", headers={"Cookie": f"{COOKIE}={visitor.cookie}"}) as response:
            await response.content.readuntil(b"\n\n")
            await client.server.app.shutdown()
            assert await response.content.read() == b""

    async def test_unavailable_redis_is_503(self, client: TestClient) -> None:
        client.server.app[DASHBOARD_CACHE].get = fail
        status, page = await (await Visitor.signed_in(client, Role.VIEWER)).get("/console")
        assert (status, "Redis does not answer" in page) == (503, True)


class TestObject:
    async def test_empty_search_explains_the_page(self, client: TestClient) -> None:
        status, page = await (await Visitor.signed_in(client, Role.VIEWER)).get("/console/object")
        assert status == 200
        assert "keeps only a count" in page

    async def test_invalid_reference_is_explained_and_escaped(self, client: TestClient) -> None:
        status, page = await (await Visitor.signed_in(client, Role.VIEWER)).get("/console/object", q=EVIL)
        assert status == 422
        assert "This is not a reference to a CRM object" in page
        assert "<script>a" not in page
        assert "<img src=x" not in page

    async def test_link_shows_the_timeline(self, client: TestClient, redis: Redis, sqlite_engine: AsyncEngine) -> None:
        write = {"method": "contacts.update", "properties": [EVIL], "ok": True}
        await archive(
            redis, sqlite_engine, record(1), record(1, id="w", action=Action.CRM_WRITE, outcome=None, detail=write)
        )
        link = f"https://app.hubspot.com/contacts/{PORTAL}/record/0-1/318845120001"
        status, page = await (await Visitor.signed_in(client, Role.VIEWER)).get("/console/object", q=link)
        assert status == 200
        assert "Processed" in page
        assert "Wrote to HubSpot: contacts.update (&lt;script&gt;" in page
        assert "<script>a" not in page

    async def test_older_records_are_on_the_next_page(
        self, client: TestClient, redis: Redis, sqlite_engine: AsyncEngine
    ) -> None:
        await archive(redis, sqlite_engine, *(record(1, id=f"{at:04}", at=1_000 + at) for at in range(201)))
        viewer = await Visitor.signed_in(client, Role.VIEWER)
        _, first = await viewer.get("/console/object", q="318845120001")
        after = first.partition("&amp;after=")[2].partition('"')[0]
        _, second = await viewer.get("/console/object", q="318845120001", after=after)
        assert [page.count("<time") for page in (first, second)] == [200, 1]
        assert ["Older records" in page for page in (first, second)] == [True, False]

    async def test_edited_cursor_redirects_to_the_newest_records(
        self, client: TestClient, redis: Redis, sqlite_engine: AsyncEngine
    ) -> None:
        await archive(redis, sqlite_engine, record(1))
        viewer = await Visitor.signed_in(client, Role.VIEWER)
        status, _ = await viewer.get("/console/object", q="318845120001", after="x")
        assert status == 302

    async def test_object_of_another_portal_is_not_shown(
        self, client: TestClient, redis: Redis, sqlite_engine: AsyncEngine
    ) -> None:
        await archive(redis, sqlite_engine, record(1))
        _, page = await (await Visitor.signed_in(client, Role.VIEWER, portals=[7])).get(
            "/console/object", q="318845120001"
        )
        assert "No records of this object" in page

    async def test_unmigrated_store_is_503_with_advice(self, client: TestClient) -> None:
        status, page = await (await Visitor.signed_in(client, Role.VIEWER)).get("/console/object", q="318845120001")
        assert status == 503
        assert "spokes doctor" in page


class TestDeadLetters:
    async def test_empty_list_is_explained(self, client: TestClient) -> None:
        _, page = await (await Visitor.signed_in(client, Role.OPERATOR)).get("/console/dead")
        assert "There are no dead letters" in page

    async def test_dead_letters_are_grouped_escaped_and_without_values(self, client: TestClient, redis: Redis) -> None:
        for number in (1, 2):
            await store_letter(redis, number, reason=EVIL, propertyName=EVIL, propertyValue="hidden-value")
        status, page = await (await Visitor.signed_in(client, Role.OPERATOR)).get("/console/dead")
        assert status == 200
        assert "2 in contacts.on_creation" in visible_text(page)
        assert "<script>a" not in page
        assert "hidden-value" not in page

    async def test_viewer_sees_no_actions_and_is_refused(self, client: TestClient, redis: Redis) -> None:
        letter = await store_letter(redis, 1)
        viewer = await Visitor.signed_in(client, Role.VIEWER)
        _, page = await viewer.get("/console/dead")
        response = await viewer.post("/console/dead/replay", {"letter": form_value(letter), "reason": "x"})
        assert ("<button>Replay" in page, response.status) == (False, 403)
        assert await DeadLetters(redis).get(PORTAL, letter.entry.key) is not None

    @pytest.mark.parametrize(("verb", "outcome"), [("replay", "replayed"), ("discard", "discarded")])
    async def test_selected_letters_are_settled_and_audited(
        self, client: TestClient, redis: Redis, verb: str, outcome: str
    ) -> None:
        first, second, third = [await store_letter(redis, number) for number in (1, 2, 3)]
        operator = await Visitor.signed_in(client, Role.OPERATOR)
        form = [("letter", form_value(first)), ("letter", form_value(second)), ("reason", "scope granted")]
        response = await operator.post(f"/console/dead/{verb}", form)
        assert (response.status, response.headers["Location"]) == (303, f"/console/dead?done={verb}&count=2")
        records = await recorded(redis)
        assert {(record.outcome, record.actor, record.reason, record.detail["address"]) for record in records} == {
            (outcome, "ada", "scope granted", "127.0.0.1")
        }
        assert [letter.entry.key async for letter in DeadLetters(redis).list(PORTAL)] == [third.entry.key]

    async def test_all_letters_of_a_cause_are_settled_at_once(self, client: TestClient, redis: Redis) -> None:
        for number in range(1, 121):
            await store_letter(redis, number)
        other = await store_letter(redis, 200, reason="rate_limited")
        form = {"all": "1", "cause": "object_not_found", "handler": "contacts.on_creation", "reason": "gone"}
        response = await (await Visitor.signed_in(client, Role.OPERATOR)).post("/console/dead/discard", form)
        assert response.headers["Location"].endswith("count=120")
        assert [letter.entry.key async for letter in DeadLetters(redis).list(PORTAL)] == [other.entry.key]

    @pytest.mark.parametrize(
        ("form", "overrides", "status"),
        [
            ({"reason": ""}, {}, 422),
            ({"reason": "x", "letter": ""}, {}, 422),
            ({"reason": "x"}, {"csrf": "0" * 64}, 403),
            ({"reason": "x"}, {"site": "cross-site"}, 403),
        ],
    )
    async def test_action_without_reason_selection_csrf_token_or_same_origin_is_refused(
        self, client: TestClient, redis: Redis, form: dict[str, str], overrides: dict[str, str], status: int
    ) -> None:
        letter = await store_letter(redis, 1)
        operator = await Visitor.signed_in(client, Role.OPERATOR)
        response = await operator.post("/console/dead/discard", {"letter": form_value(letter), **form}, **overrides)
        assert response.status == status
        assert await DeadLetters(redis).get(PORTAL, letter.entry.key) is not None

    async def test_letters_of_another_portal_are_not_found(self, client: TestClient, redis: Redis) -> None:
        letter = await store_letter(redis, 1)
        operator = await Visitor.signed_in(client, Role.OPERATOR, portals=[7])
        (_, page), (status, _) = await operator.get("/console/dead"), await operator.get(path_of(letter))
        response = await operator.post("/console/dead/discard", {"letter": form_value(letter), "reason": "x"})
        assert ("There are no dead letters" in page, status, response.status) == (True, 404, 422)

    async def test_value_is_masked_until_it_is_revealed_and_audited(self, client: TestClient, redis: Redis) -> None:
        letter = await store_letter(redis, 1, propertyValue="<b>hidden-value</b>")
        officer = await Visitor.signed_in(client, Role.PRIVACY_OFFICER)
        _, masked = await officer.get(path_of(letter))
        response = await officer.post(path_of(letter) + "/reveal", {"reason": "a complaint"})
        (audited,) = await recorded(redis)
        assert "hidden-value" not in masked
        assert "&lt;b&gt;hidden-value" in await response.text()
        assert (audited.action, audited.actor, audited.reason) == (Action.VALUE_REVEALED, "ada", "a complaint")
        assert "hidden" not in str(audited)

    @pytest.mark.parametrize(("role", "reason", "status"), [(Role.OPERATOR, "x", 403), (Role.ADMIN, " ", 422)])
    async def test_reveal_needs_role_and_reason(
        self, client: TestClient, redis: Redis, role: Role, reason: str, status: int
    ) -> None:
        letter = await store_letter(redis, 1, propertyValue="hidden-value")
        response = await (await Visitor.signed_in(client, role)).post(path_of(letter) + "/reveal", {"reason": reason})
        assert (response.status, "hidden-value" in await response.text()) == (status, False)

    async def test_long_lists_show_the_newest_letters(self, client: TestClient, redis: Redis) -> None:
        for number in range(1, 301):
            await store_letter(redis, number)
        _, page = await (await Visitor.signed_in(client, Role.OPERATOR)).get("/console/dead")
        assert "Newest 50" in page
        assert page.count('name="letter"') == 50


async def test_only_listed_assets_are_served(client: TestClient) -> None:
    async with client.get("/console/static/..%2Fnow.py") as other, client.get("/console/static/console.css") as style:
        assert (other.status, style.status, style.content_type) == (404, 200, "text/css")


async def test_cached_asset_is_304(client: TestClient) -> None:
    async with client.get("/console/static/live.js") as first:
        tag = first.headers["ETag"]
    async with client.get("/console/static/live.js", headers={"If-None-Match": tag}) as second:
        assert second.status == 304


PAGES = {
    "/console": "all", "/console/now/live": "all", "/console/object": "all", "/console/dead": "all",
    "/console/audit": "all", "/console/audit/export": "operator privacy_officer admin",
    "/console/privacy": "privacy_officer admin",
}  # fmt: skip


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("path", PAGES)
async def test_each_page_is_open_to_its_roles_only(
    client: TestClient, sqlite_engine: AsyncEngine, redis: Redis, path: str, role: Role
) -> None:
    await archive(redis, sqlite_engine)
    visitor = await Visitor.signed_in(client, role)
    async with client.get(path, headers={"Cookie": f"{COOKIE}={visitor.cookie}"}) as response:
        assert response.status == (200 if PAGES[path] == "all" or role in PAGES[path].split() else 403)


ACTIONS = {
    "/console/dead/replay": "operator admin", "/console/dead/discard": "operator admin",
    "/console/dead/7/k/reveal": "privacy_officer admin", "/console/audit/verify": "all",
}  # fmt: skip


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("path", ACTIONS)
async def test_each_action_is_open_to_its_roles_only(
    client: TestClient, sqlite_engine: AsyncEngine, redis: Redis, path: str, role: Role
) -> None:
    await archive(redis, sqlite_engine)
    response = await (await Visitor.signed_in(client, role)).post(path, {})
    assert (response.status == 403) == (ACTIONS[path] != "all" and role not in ACTIONS[path].split())
