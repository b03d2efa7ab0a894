"""The page *Pauses*, over real HTTP: it shows each pause, and resumes as the command and the API do."""

from aiohttp.test_utils import TestClient
from redis.asyncio import Redis

from spokes.console.accounts.policy import Role
from spokes.core.redis.keys import CREDENTIAL_PORTALS
from spokes.queue.held_deliveries import Calls
from spokes.queue.pauses.call_pauses import CallPauses
from spokes.queue.pauses.portal_pauses import PortalPauses
from tests.support.console_visitor import Visitor
from tests.support.events import recorded


async def test_resume_ends_the_pause_of_a_portal_and_of_its_calls_with_an_audit_record(
    client: TestClient, redis: Redis
) -> None:
    await PortalPauses(redis).pause(7, "portal_moving", seconds=3_600)
    await CallPauses(redis).pause(Calls(7, "contacts.write"), "crm_unavailable", 10, failed_probes=0)
    operator = await Visitor.signed_in(client, Role.OPERATOR)
    _, page = await operator.get("/console/pauses")
    assert "Portal 7" in page
    assert "contacts.write" in page
    response = await operator.post("/console/pauses/resume", {"portal": "7", "reason": "it has moved"})
    assert response.status == 200
    assert "Portal 7 is resumed. If HubSpot is still moving it" in await response.text()
    assert (await PortalPauses(redis).list(), await CallPauses(redis).list()) == ({}, [])
    resumed = [record for record in await recorded(redis) if record.action == "portal.resumed"]
    assert [(record.portal_id, record.reason) for record in resumed] == [(7, "it has moved")]


async def test_resume_needs_a_reason_and_a_paused_portal_of_the_actor(client: TestClient, redis: Redis) -> None:
    await PortalPauses(redis).pause(7, "portal_moving", seconds=3_600)
    operator = await Visitor.signed_in(client, Role.OPERATOR, portals=[8])
    for form, status in (
        ({"portal": "8", "reason": ""}, 422),
        ({"portal": "7", "reason": "x"}, 422),
        ({"portal": "²", "reason": "x"}, 422),
        ({"portal": "8", "reason": "x"}, 409),
    ):
        assert (await operator.post("/console/pauses/resume", form)).status == status
    assert list(await PortalPauses(redis).list()) == [7]


async def test_pauses_of_other_portals_are_not_shown(client: TestClient, redis: Redis) -> None:
    await CallPauses(redis).pause(Calls(7, "contacts.write"), "crm_unavailable", 10, failed_probes=0)
    viewer = await Visitor.signed_in(client, Role.VIEWER, portals=[8])
    assert "contacts.write" not in (await viewer.get("/console/pauses"))[1]
    assert "contacts.write" in (await (await Visitor.signed_in(client, Role.VIEWER)).get("/console"))[1]


async def test_handler_is_paused_and_resumed_with_audit_records(client: TestClient, redis: Redis) -> None:
    await redis.zadd(CREDENTIAL_PORTALS, {"7": 1})
    operator, form = await Visitor.signed_in(client, Role.OPERATOR), {"portal": "7", "reason": "wrong numbers"}
    assert "Pause a handler" in (await operator.get("/console/pauses"))[1]
    named = {**form, "handler": "contacts.keep_reachable"}
    page = await (await operator.post("/console/pauses/handler/pause", named)).text()
    assert "Handler contacts.keep_reachable is paused in portal 7." in page
    assert "Events of handler" in page
    page = await (await operator.post("/console/pauses/handler/resume", named)).text()
    assert "Handler contacts.keep_reachable is resumed in portal 7." in page
    assert (await operator.post("/console/pauses/handler/resume", named)).status == 409
    assert (await operator.post("/console/pauses/handler/pause", {**form, "handler": "contacts.none"})).status == 422
    records = [record for record in await recorded(redis) if record.handler]
    assert [record.action for record in records] == ["portal.paused", "portal.resumed"]


async def test_viewer_pauses_no_handler(client: TestClient, redis: Redis) -> None:
    await redis.zadd(CREDENTIAL_PORTALS, {"7": 1})
    viewer = await Visitor.signed_in(client, Role.VIEWER)
    form = {"portal": "7", "reason": "x", "handler": "contacts.keep_reachable"}
    assert (await viewer.post("/console/pauses/handler/pause", form)).status == 403
    assert "Pause a handler" not in (await viewer.get("/console/pauses"))[1]
