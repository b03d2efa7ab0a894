"""spokes.queue.quarantine: contents are kept once, sealed, for a bounded time and in bounded number."""

import pytest
from redis.asyncio import Redis

from spokes.audit.records import Action, Outcome
from spokes.core.clock import now_ms
from spokes.core.errors import SecretUnreadable
from spokes.core.redis import keys
from spokes.core.telemetry.alerts import Alert
from spokes.core.vault import Vault
from spokes.queue import quarantine as module
from spokes.queue.quarantine import NewContent, Quarantine, QuarantinedContent
from tests.support.events import recorded

PORTAL = 50112233
CANARY = b'{"objectId":[1],"propertyValue":"canary@example.com","a":null,"b":true,"c":1.5}'


@pytest.fixture
def quarantine(redis: Redis) -> Quarantine:
    return Quarantine(redis, Vault(["key"]), ttl_s=3600)


async def keep(quarantine: Quarantine, *keys_: str, content: bytes = CANARY, portal_id: int = PORTAL) -> None:
    contents = [NewContent(portal_id, key, "merge_ids", content) for key in keys_]
    await quarantine.keep(contents, delivery_id="7-1-1", alert=Alert.ELEMENTS_QUARANTINED)


async def listed(quarantine: Quarantine, portal_id: int = PORTAL) -> list[QuarantinedContent]:
    return [content async for content in quarantine.list(portal_id)]


async def test_content_is_kept_unchanged_and_sealed(redis: Redis, quarantine: Quarantine) -> None:
    body = bytes(range(256)) * 40
    await keep(quarantine, "aa", content=body)
    (content,) = await listed(quarantine)
    assert (quarantine.open(content), content.size, content.reason) == (body, len(body), "merge_ids")
    with pytest.raises(SecretUnreadable):
        Quarantine(redis, Vault(["other key"]), ttl_s=60).open(content)


async def test_content_is_kept_once_and_expires(redis: Redis, quarantine: Quarantine) -> None:
    await keep(quarantine, "aa")
    await keep(quarantine, "aa", "bb")
    assert [content.key for content in await listed(quarantine)] == ["bb", "aa"]
    assert 0 < await redis.ttl(keys.quarantined_content(PORTAL, "aa")) <= 3600
    await redis.delete(keys.quarantined_content(PORTAL, "aa"))  # as its expiry does
    assert [content.key for content in await listed(quarantine)] == ["bb"]
    assert await redis.zcard(keys.quarantine_index(PORTAL)) == 1


@pytest.mark.parametrize(("limit", "value"), [("_MAX_COUNT", 3), ("_MAX_BYTES", 1_200)])
async def test_oldest_contents_leave_beyond_the_limits(
    quarantine: Quarantine, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(module, limit, value)
    for number in range(8):
        await keep(quarantine, f"{number:02}")
    names = [content.key for content in await listed(quarantine)]
    assert names[0] == "07"
    assert 0 < len(names) <= 4
    await keep(quarantine, "aa", portal_id=8)  # another portal has its own limits
    assert len(await listed(quarantine)) == len(names)


async def test_types_of_fields_are_shown_and_no_value(quarantine: Quarantine) -> None:
    await keep(quarantine, "aa")
    (content,) = await listed(quarantine)
    types = quarantine.field_types(content)
    assert types == {"objectId": "array", "propertyValue": "text", "a": "null", "b": "boolean", "c": "number"}


async def test_content_is_found_by_an_id_in_it(quarantine: Quarantine) -> None:
    await keep(quarantine, "aa", content=b'{"objectId":{"id":"7001"}}')
    await keep(quarantine, "bb", content=b'{"objectId":17001}')
    await keep(quarantine, "cc", content=b"[7001", portal_id=0)
    assert {content.key for content in await quarantine.mentioning(PORTAL, {"7001"})} == {"aa", "cc"}


async def test_closed_content_leaves_a_record_and_is_closed_once(redis: Redis, quarantine: Quarantine) -> None:
    await keep(quarantine, "aa")
    (content,) = await listed(quarantine)
    closed = [await quarantine.close(content, Outcome.DISCARDED, actor="ada", reason="test") for _ in range(2)]
    assert (closed, await listed(quarantine)) == ([1, 0], [])
    events = [record for record in await recorded(redis) if record.action is Action.EVENT]
    assert [(record.event_key, record.outcome, record.actor) for record in events] == [("aa", Outcome.DISCARDED, "ada")]


async def test_old_contents_are_deleted(redis: Redis, quarantine: Quarantine) -> None:
    await keep(quarantine, "aa", "bb")
    await redis.zadd(keys.quarantine_index(PORTAL), {"aa": 5})
    assert await quarantine.delete_before(now_ms() - 60_000) == 1
    assert [content.key for content in await listed(quarantine)] == ["bb"]
    assert not await redis.exists(keys.quarantined_content(PORTAL, "aa"))
