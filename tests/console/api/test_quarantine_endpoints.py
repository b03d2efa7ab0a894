"""`/api/v1/quarantine` over real HTTP."""

from collections.abc import AsyncIterator

import orjson
import pytest
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis

from spokes.console.accounts.policy import Role
from spokes.console.web.app_keys import SETTINGS
from spokes.core.redis.keys import JOB_QUEUE
from spokes.core.telemetry.alerts import Alert
from spokes.queue.quarantine import NewContent, Quarantine
from tests.console.api.test_api import Program
from tests.support.console_visitor import running_console
from tests.support.events import event

WHY = {"reason": "fixed"}


@pytest.fixture
async def client(environ: dict[str, str], redis: Redis) -> AsyncIterator[TestClient]:
    async with running_console(environ) as client:
        yield client


@pytest.fixture
async def quarantine(client: TestClient, redis: Redis) -> Quarantine:
    """Contents of two portals and of none; `ok` is readable by now."""
    quarantine = Quarantine.from_settings(redis, client.server.app[SETTINGS])
    bad = orjson.dumps(event(subscriptionType="contact.merge", mergedObjectIds="canary"))
    for number, (portal_id, key, reason, content) in enumerate(
        [(7, "aa", "merge_ids", bad), (7, "ok", "merge_ids", orjson.dumps(event())), (8, "bb", "merge_ids", bad),
         (0, "cc", "body_not_json", b"[canary")], start=1,
    ):  # fmt: skip
        contents = [NewContent(portal_id, key, reason, content)]
        await quarantine.keep(
            contents, delivery_id="d", alert=Alert.ELEMENTS_QUARANTINED, at=1_795_442_400_000 + number
        )
    return quarantine


async def keys_of(program: Program, **query: str) -> list[str]:
    _, page = await program.get("/quarantine", **query)
    return [item["key"] for item in page["items"]]


async def test_contents_are_paged_filtered_and_without_values(client: TestClient, quarantine: Quarantine) -> None:
    program = Program(client, Role.VIEWER)
    keys, after = [], {}
    while True:
        status, page = await program.get("/quarantine", limit="1", **after)
        keys += [item["key"] for item in page["items"]]
        assert (status, "canary" in str(page)) == (200, False)
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert keys == ["cc", "ok", "aa", "bb"]
    assert await keys_of(program, portal_id="7") == ["ok", "aa"]
    assert await keys_of(program, cause="body_not_json") == ["cc"]
    _, one = await program.get("/quarantine/7/aa")
    assert (one["cause"], one["fields"]["mergedObjectIds"], one["delivery_id"]) == ("merge_ids", "text", "d")


async def test_content_is_replayed_and_an_unreadable_one_stays(
    client: TestClient, redis: Redis, quarantine: Quarantine
) -> None:
    program = Program(client, Role.OPERATOR)
    assert await program.post("/quarantine/7/ok/replay", WHY) == (200, {"count": 1, "unreadable": 0})
    assert await program.post("/quarantine/7/aa/replay", WHY) == (200, {"count": 0, "unreadable": 1})
    assert (await program.post("/quarantine/7/ok/replay", WHY))[0] == 404
    assert (await redis.zcard(JOB_QUEUE), await keys_of(program, portal_id="7")) == (1, ["aa"])


async def test_many_contents_are_settled_by_a_filter(client: TestClient, quarantine: Quarantine) -> None:
    program = Program(client, Role.OPERATOR)
    assert (await program.post("/quarantine/replay", WHY))[0] == 422
    assert await program.post("/quarantine/replay", {**WHY, "cause": "merge_ids"}) == (
        200,
        {"count": 1, "unreadable": 2},
    )
    assert await program.post("/quarantine/discard", {**WHY, "keys": ["aa"]}) == (200, {"count": 1, "unreadable": 0})
    assert await program.post("/quarantine/discard", {**WHY, "all": True}) == (200, {"count": 2, "unreadable": 0})


async def test_limits_of_portals_and_roles_hold(client: TestClient, quarantine: Quarantine) -> None:
    limited = Program(client, Role.OPERATOR, portals=[8])
    assert await keys_of(limited) == ["bb"]
    for path in ("/quarantine/7/aa", "/quarantine/0/cc"):
        assert (await limited.get(path))[0] == 404
        assert (await limited.post(path + "/discard", WHY))[0] == 404
    assert await limited.post("/quarantine/discard", {**WHY, "all": True}) == (200, {"count": 1, "unreadable": 0})
    assert (await Program(client, Role.VIEWER).post("/quarantine/7/aa/discard", WHY))[0] == 403
    assert (await limited.get("/quarantine", after="7:aa"))[0] == 410
