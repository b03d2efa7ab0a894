"""The part *Unreadable* of the page *Dead letters*, over real HTTP."""

import orjson
import pytest
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis

from spokes.console.accounts.policy import Role
from spokes.console.web.app_keys import SETTINGS
from spokes.core.delivery import Delivery, decode
from spokes.core.redis.keys import JOB_KEY_PREFIX, JOB_QUEUE
from spokes.core.telemetry.alerts import Alert
from spokes.queue.quarantine import NewContent, Quarantine
from tests.support.console_visitor import HOSTILE_HTML, Visitor, visible_text
from tests.support.events import event, recorded

PORTAL = 50112233


async def keep(client: TestClient, redis: Redis, *contents: NewContent) -> Quarantine:
    quarantine = Quarantine.from_settings(redis, client.server.app[SETTINGS])
    await quarantine.keep(contents, delivery_id="7-1-1", alert=Alert.ELEMENTS_QUARANTINED)
    return quarantine


def merge(key: str, portal_id: int = PORTAL, **fields: object) -> NewContent:
    raw = event(subscriptionType="contact.merge", portalId=portal_id, mergedObjectIds="canary", **fields)
    return NewContent(portal_id, key, "merge_ids", orjson.dumps(raw))


async def test_contents_are_listed_by_reason_without_values(client: TestClient, redis: Redis) -> None:
    await keep(client, redis, merge("aa", **{HOSTILE_HTML: 1}), NewContent(0, "bb", "body_not_json", b"[canary"))
    viewer = await Visitor.signed_in(client, Role.VIEWER)
    _, page = await viewer.get("/console/dead")
    assert "An id of the merge is unreadable" in visible_text(page)
    assert "The body is not JSON" in visible_text(page)
    assert ("mergedObjectIds" in page, "canary" in page, "<script>a" in page) == (True, False, False)
    assert "/console/quarantine/discard" not in page


@pytest.mark.parametrize(
    ("query", "shown"),
    [({"unreadable": "merge_ids"}, {"aa"}), ({"portal": "0"}, {"bb"}), ({"portal": "x"}, set()), ({}, {"aa", "bb"})],
)
async def test_list_is_filtered_by_reason_and_portal(
    client: TestClient, redis: Redis, query: dict[str, str], shown: set[str]
) -> None:
    await keep(client, redis, merge("aa"), NewContent(0, "bb", "body_not_json", b"["))
    _, page = await (await Visitor.signed_in(client, Role.OPERATOR)).get("/console/dead", **query)
    assert {key for key in ("aa", "bb") if f"{key}</a>" in page} == shown


async def test_content_shows_types_and_no_value(client: TestClient, redis: Redis) -> None:
    await keep(client, redis, merge("aa"))
    _, page = await (await Visitor.signed_in(client, Role.VIEWER)).get(f"/console/quarantine/{PORTAL}/aa")
    assert "mergedObjectIds text" in visible_text(page)
    assert ("canary" in page, "Replay or discard" in page) == (False, False)


async def test_selected_contents_are_replayed_and_the_unreadable_ones_stay(client: TestClient, redis: Redis) -> None:
    good = NewContent(PORTAL, "cc", "merge_ids", orjson.dumps(event(subscriptionType="contact.creation")))
    quarantine = await keep(client, redis, merge("aa"), good, merge("dd"))
    operator = await Visitor.signed_in(client, Role.OPERATOR)
    form = [("content", f"{PORTAL}:aa"), ("content", f"{PORTAL}:cc"), ("reason", "fixed")]
    response = await operator.post("/console/quarantine/replay", form)
    assert (response.status, response.headers["Location"]) == (303, "/console/dead?settled=replay&count=1&still=1")
    _, page = await operator.get("/console/dead", settled="replay", count="1", still="1")
    assert "1 are still unreadable and stay" in visible_text(page)
    assert {content.key async for content in quarantine.list(PORTAL)} == {"aa", "dd"}
    (job_id,) = await redis.zrange(JOB_QUEUE, 0, -1)
    (entry,) = Delivery.from_job(decode(await redis.get(JOB_KEY_PREFIX + job_id.decode()))["a"][0]).entries
    assert entry.raw["subscriptionType"] == "contact.creation"
    (record,) = [record for record in await recorded(redis) if record.actor == "ada" and record.outcome]
    assert (record.outcome, record.event_key, record.reason, record.detail["address"]) == (
        "replayed", "cc", "fixed", "127.0.0.1",
    )  # fmt: skip


async def test_all_contents_of_a_reason_are_discarded_at_once(client: TestClient, redis: Redis) -> None:
    other = NewContent(PORTAL, "zz", "not_json", b"x")
    quarantine = await keep(client, redis, *(merge(f"{number:04}") for number in range(120)), other)
    form = {"all": "1", "cause": "merge_ids", "reason": "noise"}
    response = await (await Visitor.signed_in(client, Role.OPERATOR)).post("/console/quarantine/discard", form)
    assert response.headers["Location"].endswith("count=120&still=0")
    assert [content.key async for content in quarantine.list(PORTAL)] == ["zz"]


async def test_contents_of_another_portal_are_not_found(client: TestClient, redis: Redis) -> None:
    quarantine = await keep(client, redis, merge("aa"), NewContent(0, "bb", "body_not_json", b"["))
    operator = await Visitor.signed_in(client, Role.OPERATOR, portals=[7])
    _, page = await operator.get("/console/dead")
    for portal, key in ((PORTAL, "aa"), (0, "bb")):
        assert (await operator.get(f"/console/quarantine/{portal}/{key}"))[0] == 404
        form = {"content": f"{portal}:{key}", "reason": "x"}
        assert (await operator.post("/console/quarantine/discard", form)).status == 422
        assert len([content async for content in quarantine.list(portal)]) == 1
    assert ("aa</a>" in page, "bb</a>" in page) == (False, False)


@pytest.mark.parametrize(("form", "status"), [({"reason": ""}, 422), ({"reason": "x", "content": ""}, 422)])
async def test_action_without_reason_or_selection_is_refused(
    client: TestClient, redis: Redis, form: dict[str, str], status: int
) -> None:
    await keep(client, redis, merge("aa"))
    operator = await Visitor.signed_in(client, Role.OPERATOR)
    response = await operator.post("/console/quarantine/discard", {"content": f"{PORTAL}:aa", **form})
    assert response.status == status
