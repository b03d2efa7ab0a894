"""The page *Now* and its live stream, over real HTTP."""

import orjson
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis

from spokes.console.accounts.policy import Role
from spokes.console.accounts.sessions import COOKIE
from spokes.console.pages.dashboard import DASHBOARD_CACHE, Dashboard
from spokes.console.web.app_keys import SESSIONS
from spokes.core.errors import CRMUnavailable
from spokes.core.redis.keys import PAUSED_PORTALS
from spokes.core.telemetry import metric_history as minutes
from spokes.core.telemetry.metric_history import Snapshot
from spokes.core.telemetry.metric_totals import sample_key
from spokes.core.telemetry.metrics import EVENTS
from spokes.queue.pauses.portal_pauses import PortalPause
from tests.support.console_visitor import HOSTILE_HTML, Visitor, visible_text


async def fail(*_: object) -> Dashboard:
    raise CRMUnavailable


async def test_page_works_without_any_data(client: TestClient) -> None:
    status, page = await (await Visitor.signed_in(client, Role.VIEWER)).get("/console")
    assert status == 200
    assert "No active alerts" in page
    assert "A worker stores the counts once a minute" in page


async def test_rates_are_drawn(client: TestClient, redis: Redis) -> None:
    for at in range(3):
        await minutes.append_snapshot(redis, Snapshot(at * 60_000, {sample_key(EVENTS, result="admitted"): at * 120.0}))
    _, page = await (await Visitor.signed_in(client, Role.VIEWER)).get("/console")
    assert 'class="line in" d="M0.00,' in page


async def test_rates_are_hidden_from_actors_of_some_portals(client: TestClient) -> None:
    _, page = await (await Visitor.signed_in(client, Role.VIEWER, portals=[7])).get("/console")
    assert "These counts cover all portals" in page


async def test_pause_is_shown_with_its_end_and_the_command_that_ends_it(client: TestClient, redis: Redis) -> None:
    pause = PortalPause("portal_moving", 1_700_000_000.0, 1_700_003_600.0)
    await redis.hset(PAUSED_PORTALS, "7", pause.to_json().decode())
    _, page = await (await Visitor.signed_in(client, Role.VIEWER)).get("/console")
    assert "Portal 7 is paused" in page
    assert "22:13" in page
    assert "23:13" in page
    assert "spokes resume 7" in page


async def test_alert_is_shown_escaped(client: TestClient, redis: Redis) -> None:
    await redis.hset("spokes:alerts", f"{HOSTILE_HTML}:of", orjson.dumps({"since": 1, "portal_id": 7}))
    _, page = await (await Visitor.signed_in(client, Role.VIEWER)).get("/console")
    assert "alert(1)" in visible_text(page)
    assert "<script>a" not in page


async def test_live_stream_has_security_headers_and_ends_with_the_session(client: TestClient) -> None:
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


async def test_live_streams_end_at_shutdown(client: TestClient) -> None:
    visitor = await Visitor.signed_in(client, Role.VIEWER)
    async with client.get("/console/now/live", headers={"Cookie": f"{COOKIE}={visitor.cookie}"}) as response:
        await response.content.readuntil(b"\n\n")
        await client.server.app.shutdown()
        assert await response.content.read() == b""


async def test_unavailable_redis_is_503(client: TestClient) -> None:
    client.server.app[DASHBOARD_CACHE].get = fail
    status, page = await (await Visitor.signed_in(client, Role.VIEWER)).get("/console")
    assert (status, "Redis does not answer" in page) == (503, True)
