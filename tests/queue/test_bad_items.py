"""One unreadable item in Redis costs itself alone, for every reader; it is alerted once."""

from base64 import b64encode

import orjson
import pytest
from redis.asyncio import Redis

from spokes.audit.alerts import bad_items
from spokes.console.accounts.users import Users
from spokes.console.queries.alerts import active_alerts
from spokes.console.queries.dead_letters import count_dead_letters, dead_letter_causes, find_dead_letters
from spokes.console.queries.queue import queue_status
from spokes.core.delivery import Delivery, Entry, encode, job_payload
from spokes.core.redis import keys
from spokes.core.vault import Vault
from spokes.privacy.redis_data import DataSubject
from spokes.privacy.redis_purge import purge_subject
from spokes.queue.dead_letters import DeadLetter, DeadLetters
from spokes.queue.pauses.portal_pauses import PortalPauses
from spokes.queue.quarantine import Quarantine
from spokes.queue.unreadable_jobs import delete_before, find_mentioning
from tests.support.console_visitor import SEALS
from tests.support.events import event, store_dead_letters

PORTAL = 50112233
BAD_VALUES = [
    b"", b"\xff\xfe", b"\x01", b"\x01[]", b"\x01{}", b"\x01null", b"{}", b"[1", encode({"entry": 5}),
    encode({"portal": 1, "delivery": "d", "reason": "r", "handler": "h", "at": 1, "entry": ["k", 1, {}]}),
    encode({"portal": 1, "delivery": "d", "reason": "r", "handler": "h", "at": [], "entry": ["k", 1, event()]}),
]  # fmt: skip


@pytest.fixture(autouse=True)
def forget_reports() -> None:
    bad_items._last_reported.clear()


def letter(key: str, number: int) -> DeadLetter:
    return DeadLetter(PORTAL, "7-1-1", Entry(key, 1, event(number)), "object_not_found", "h", number)


async def alerts(redis: Redis) -> set[str]:
    messages = await redis.lrange(keys.ALERT_OUTBOX, 0, -1)  # type: ignore[misc]  # redis-py types one class for sync and async
    return {orjson.loads(message)["alert"] for message in messages}


async def spoil_sets(redis: Redis) -> None:
    """Add a bad member to every set, hash and list that holds items."""
    await redis.sadd(keys.PORTALS, "seven", b"\xff")
    await redis.sadd(keys.dead_letter_causes(PORTAL), b"\xff", b"{}", b"[1]", b'[["a"],2,3]')
    await redis.zadd(keys.dead_letters_by_time(PORTAL), {b"\xff\xfe": 9})
    await redis.hset(keys.PAUSED_PORTALS, mapping={b"x": b"{}", b"\xff": b"", str(PORTAL): b"[]"})
    await redis.hset(keys.ALERTS_ACTIVE, mapping={b"\xff": b"{}", b"crash_loop": b"[", b"portal_paused:5": b"7"})
    await redis.hset(keys.CONSOLE_USERS, mapping={b"ada": b"[]", b"\xff": b"{}"})
    await redis.lpush(keys.UNREADABLE_JOBS, b"\xff", b"\x01[]", b"\x01{}")


@pytest.mark.parametrize("bad", BAD_VALUES)
async def test_unreadable_dead_letter_costs_itself_alone(redis: Redis, bad: bytes) -> None:
    await store_dead_letters(redis, letter("aa", 1), letter("bb", 2))
    await redis.set(keys.dead_letter(PORTAL, "aa"), bad)
    assert [found.entry.key async for found in find_dead_letters(redis, None)] == ["bb"]
    assert await DeadLetters(redis).get(PORTAL, "aa") is None
    found = await DeadLetters(redis).by_missing_object(PORTAL, "contact", letter("bb", 2).entry.event.object_id)
    assert [each.entry.key for each in found] == ["bb"]
    assert [cause.reason for cause in await dead_letter_causes(redis, None)] == ["object_not_found"]
    assert await alerts(redis) == {"redis_item_unreadable"}


async def test_every_reader_goes_on_beside_bad_members(redis: Redis) -> None:
    await store_dead_letters(redis, letter("aa", 1))
    listed = encode({"id": f"{PORTAL}-1-3", "at": 1, "payload": b64encode(encode({"objectId": 77})).decode()})
    await redis.lpush(keys.UNREADABLE_JOBS, listed)
    await redis.hset(keys.PAUSED_PORTALS, "8", b'{"why":"operator","since":1.0,"until":null}')  # type: ignore[misc]  # as above
    await spoil_sets(redis)
    assert [found.entry.key async for found in find_dead_letters(redis, None)] == ["aa"]
    assert await count_dead_letters(redis, None) == 1
    assert len(await dead_letter_causes(redis, None)) == 1
    assert list(await PortalPauses(redis).list()) == [8]
    assert await Users(redis, SEALS).all() == ()
    assert [alert.name for alert in await active_alerts(redis, None)] == []
    assert len(await find_mentioning(redis, {"77"})) == 1
    assert await delete_before(redis, 10**15) == 1
    assert (await queue_status(redis, None)).paused.keys() == {8}


async def test_erasure_goes_on_beside_bad_items(redis: Redis) -> None:
    entries = (Entry("a1", 0, event(1, objectId=5)), Entry("a2", 0, {"objectId": 5}), Entry("a3", 0, {"objectId": 6}))
    await redis.set(keys.JOB_KEY_PREFIX + "d1", job_payload(Delivery("d1", PORTAL, 1, entries), 1))
    await redis.set(keys.JOB_KEY_PREFIX + "d2", encode({"a": 7}))
    await redis.zadd(keys.JOB_QUEUE, {"d1": 10**13, "d2": 10**13})
    await store_dead_letters(redis, letter("aa", 1))
    await redis.set(keys.dead_letter(PORTAL, "aa"), b"\xff")
    await spoil_sets(redis)
    subject = DataSubject(PORTAL, "contact", frozenset({"5"}))
    counts = await purge_subject(redis, subject, Quarantine(redis, Vault(["key"]), ttl_s=60), b"key")
    assert (counts.events, counts.busy) == (2, 0)
