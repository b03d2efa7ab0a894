"""What the web process cannot read is kept, and operators take it up again."""

import json

import orjson
import pytest
from redis.asyncio import Redis

from spokes.core.delivery import Delivery, decode
from spokes.core.redis.keys import ALERT_OUTBOX, JOB_KEY_PREFIX, JOB_QUEUE
from spokes.core.settings import Settings
from spokes.intake import body_parser
from spokes.queue.quarantine import Quarantine, QuarantinedContent
from tests.ingest.conftest import Post
from tests.support.command_line import spokes
from tests.support.events import batch, event, recorded

PORTAL = 50112233
BAD_MERGE = event(9, subscriptionType="contact.merge", mergedObjectIds={"canary": "x"})


async def kept(redis: Redis, settings: Settings) -> list[QuarantinedContent]:
    quarantine = Quarantine.from_settings(redis, settings)
    return [content for portal in await quarantine.portals() async for content in quarantine.list(portal)]


async def queued_event_ids(redis: Redis) -> list[int]:
    jobs = [decode(await redis.get(JOB_KEY_PREFIX + id_.decode())) for id_ in await redis.zrange(JOB_QUEUE, 0, -1)]
    return [entry.raw["eventId"] for job in jobs for entry in Delivery.from_job(job["a"][0]).entries]


async def alerts(redis: Redis) -> list[str]:
    return [orjson.loads(message)["alert"] for message in await redis.lrange(ALERT_OUTBOX, 0, -1)]  # type: ignore[misc]  # redis-py types one class for sync and async


async def test_bad_element_is_kept_and_the_others_run(post: Post, redis: Redis, settings: Settings) -> None:
    status, _ = await post(batch(event(1), BAD_MERGE, event(2)))
    (content,) = await kept(redis, settings)
    (record,) = [record for record in await recorded(redis) if record.outcome]
    assert (status, await queued_event_ids(redis)) == (202, [1_000_001, 1_000_002])
    assert (content.portal_id, content.reason, record.event_key) == (PORTAL, "merge_ids", content.key)
    assert orjson.loads(Quarantine.from_settings(redis, settings).open(content)) == BAD_MERGE
    assert await alerts(redis) == ["elements_quarantined"]


@pytest.mark.parametrize("bad", [b'{"a":NaN}', b"[" * 3000 + b"]" * 3000, b'{"occurredAt":1e400}', b"\xff"])
async def test_element_that_is_no_json_costs_itself_alone(
    post: Post, redis: Redis, settings: Settings, bad: bytes
) -> None:
    good = [orjson.dumps(event(number)) for number in range(100)]
    status, _ = await post(b"[" + b",".join([*good[:57], bad, *good[57:]]) + b"]")
    (content,) = await kept(redis, settings)
    assert (status, len(await queued_event_ids(redis)), content.portal_id) == (202, 100, PORTAL)
    assert Quarantine.from_settings(redis, settings).open(content) == bad


async def test_lone_surrogate_costs_no_event(post: Post, redis: Redis, settings: Settings) -> None:
    raw = event(1, subscriptionType="contact.propertyChange", propertyName="email", propertyValue="SURROGATE")
    status, _ = await post(batch(event(2), raw).replace(b"SURROGATE", b"\\ud83d"))
    assert (status, await queued_event_ids(redis), await kept(redis, settings)) == (202, [1_000_002, 1_000_001], [])


async def test_signed_body_without_an_end_is_refused_kept_once_and_alerted(
    post: Post, redis: Redis, settings: Settings
) -> None:
    body = batch(event(1))[:-1]
    statuses = [(await post(body.replace(b'"attemptNumber":0', b'"attemptNumber":%d' % n)))[0] for n in range(3)]
    (content,) = await kept(redis, settings)
    assert (statuses, content.portal_id, content.reason) == ([400] * 3, 0, "body_not_json")
    assert Quarantine.from_settings(redis, settings).open(content) == body
    assert await alerts(redis) == ["signed_request_unreadable"]


async def test_forged_body_is_not_kept(post: Post, redis: Redis, settings: Settings) -> None:
    status, _ = await post(b"[", headers={})
    assert (status, await kept(redis, settings), await alerts(redis)) == (401, [], [])


async def test_quarantined_content_is_listed_without_values_replayed_and_discarded(
    post: Post, redis: Redis, settings: Settings, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(body_parser, "_MAX_DEPTH", 1)  # a version that reads less than this one
        await post(batch(event(1, sourceId=[[["canary"]]]), *[7] * 201))
    await post(batch(BAD_MERGE))
    contents = await kept(redis, settings)
    (deep,) = [content for content in contents if content.reason == "nested_too_deep"]
    (merge,) = [content for content in contents if content.reason == "merge_ids"]
    shown = spokes(environ, "dead", "list", "--quarantined", "--json", "--limit", "500").stdout
    assert {deep.key, merge.key} <= {json.loads(line)["key"] for line in shown.splitlines()}
    assert "canary" not in shown + spokes(environ, "dead", "list", "--quarantined").stdout
    one = spokes(environ, "dead", "show", merge.key, "--json").stdout
    assert json.loads(one) in [json.loads(line) for line in shown.splitlines()]
    table = spokes(environ, "dead", "show", merge.key).stdout
    assert ("merge_ids" in table, "mergedObjectIds" in table, "canary" in one + table) == (True, True, False)

    selection = ("--quarantined", "--reason", "fixed", "--yes", "--json")
    replayed = spokes(environ, "dead", "replay", deep.key, merge.key, *selection).stdout
    assert json.loads(replayed) == {"done": "replay", "count": 1, "unreadable": 1}
    assert await queued_event_ids(redis) == [1_000_001]
    discarded = spokes(environ, "dead", "discard", merge.key, *selection).stdout
    assert json.loads(discarded) == {"done": "discard", "count": 1}
    assert {deep.key, merge.key}.isdisjoint(content.key for content in await kept(redis, settings))
    assert spokes(environ, "dead", "replay", merge.key, *selection).returncode == 1
