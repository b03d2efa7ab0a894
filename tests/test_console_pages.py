"""console.pages over real HTTP, without a browser: what stands on them, for whom, and what never does."""

from collections.abc import AsyncIterator

import orjson
import pytest
from aiohttp.test_utils import TestClient, TestServer
from console_visitor import KEY, Visitor, seen
from redis.asyncio import Redis

from console.pages.charts import ceiling, chart
from console.web.app import create_app
from console.web.formats import count, duration
from console.web.policy import Role
from console.web.sessions import COOKIE
from console.web.state import SESSIONS
from core import minutes
from core.minutes import Snapshot
from core.settings import Settings
from core.totals import sample

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


@pytest.fixture
async def client(environ: dict[str, str], redis: Redis) -> AsyncIterator[TestClient]:
    settings = Settings.from_env({**environ, "CONSOLE_KEY": KEY})
    async with TestClient(TestServer(create_app(settings))) as client:
        yield client


class TestDrawing:
    @pytest.mark.parametrize(("value", "top"), [(0, 10), (10, 10), (11, 20), (49, 50), (501, 1000), (1000, 1000)])
    def test_an_axis_ends_on_a_round_number(self, value: float, top: float) -> None:
        assert ceiling(value) == top

    def test_the_highest_value_is_drawn_inside(self) -> None:
        assert chart([0, 10], [5, 5]).lines == ("M0.00,100.00 L100.00,0.00", "M0.00,50.00 L100.00,50.00")

    @pytest.mark.parametrize(
        ("seconds", "told"),
        [
            (None, "-"),
            (0.42, "0.4 s"),
            (59.6, "1 min 0 s"),
            (125, "2 min 5 s"),
            (7_300, "2 h 1 min"),
            (90_000, "1 d 1 h"),
        ],
    )
    def test_a_length_of_time_is_told_in_two_units(self, seconds: float | None, told: str) -> None:
        assert duration(seconds) == told

    def test_large_counts_are_whole_and_small_ones_exact(self) -> None:
        assert [count(0), count(1.25), count(12_345.6)] == ["0", "1.2", "12,346"]


class TestNow:
    async def test_it_stands_without_any_data(self, client: TestClient) -> None:
        status, page = await (await Visitor.come(client, Role.VIEWER)).get("/console")
        assert status == 200
        assert "No alert stands" in page
        assert "A worker notes once a minute" in page

    async def test_rates_are_drawn(self, client: TestClient, redis: Redis) -> None:
        for at in range(3):
            await minutes.keep(
                redis, Snapshot(at * 60_000, {sample("spokes_events_total", fate="admitted"): at * 120.0})
            )
        _, page = await (await Visitor.come(client, Role.VIEWER)).get("/console")
        assert 'class="line in" d="M0.00,' in page

    async def test_who_sees_some_portals_only_is_told_no_rates(self, client: TestClient) -> None:
        _, page = await (await Visitor.come(client, Role.VIEWER, portals=[7])).get("/console")
        assert "Counts carry no portal" in page

    async def test_an_alert_is_shown_escaped(self, client: TestClient, redis: Redis) -> None:
        await redis.hset("spokes:alerts", f"{EVIL}:of", orjson.dumps({"since": 1, "portal_id": 7}))
        _, page = await (await Visitor.come(client, Role.VIEWER)).get("/console")
        assert "alert(1)" in seen(page)
        assert "<script>a" not in page

    async def test_live_parts_are_streamed_with_every_guard_and_end_with_the_session(self, client: TestClient) -> None:
        visitor = await Visitor.come(client, Role.VIEWER)
        async with client.get("/console/now/live", headers={"Cookie": f"{COOKIE}={visitor.cookie}"}) as answer:
            assert answer.content_type == "text/event-stream"
            assert "Content-Security-Policy" in answer.headers
            kind, data = await answer.content.readline(), await answer.content.readline()
            await client.server.app[SESSIONS].end_all("ada")
            rest = await answer.content.read()
        assert kind == b"event: parts\n"
        assert "Backlog" in orjson.loads(data.removeprefix(b"data: "))["figures"]
        assert rest == b"\n"


async def test_files_are_a_closed_list(client: TestClient) -> None:
    async with client.get("/console/static/..%2Fnow.py") as other, client.get("/console/static/console.css") as style:
        assert (other.status, style.status, style.content_type) == (404, 200, "text/css")


async def test_a_browser_that_has_a_file_is_told_so(client: TestClient) -> None:
    async with client.get("/console/static/live.js") as first:
        tag = first.headers["ETag"]
    async with client.get("/console/static/live.js", headers={"If-None-Match": tag}) as again:
        assert again.status == 304
