"""spokes.queue.default_queue: our jobs move from arq's default queue into ours, and foreign jobs stay."""

import pickle

import pytest
from redis.asyncio import Redis

from spokes.core.delivery import Delivery, Entry, encode, job_payload
from spokes.core.redis import keys
from spokes.queue.default_queue import DefaultQueueWatch, read_default_queue
from tests.support.events import event

FOREIGN = {
    "stock job": pickle.dumps({"t": 1, "f": "process_delivery", "a": (1,), "k": {}, "et": 1}),
    "other function": encode({"t": None, "f": "send_mail", "a": [{}], "k": {}, "et": 1}),
    "two arguments": encode({"t": None, "f": "process_delivery", "a": [1, 2], "k": {}, "et": 1}),
    "unknown codec": b"\x09whatever",
    "text": b"hello",
    "empty": b"",
}


async def queue_old(redis: Redis, number: int, *, due_ms: int = 1) -> Delivery:
    """Queue a delivery where version 5572e85 put it."""
    delivery = Delivery(f"7-{number:x}-a", 7, 1, (Entry(f"{number:020x}", 0, event(number)),))
    await redis.set(keys.DEFAULT_JOB_KEY_PREFIX + delivery.id, job_payload(delivery, 1))
    await redis.zadd(keys.DEFAULT_QUEUE, {delivery.id: due_ms})
    return delivery


async def test_jobs_of_an_earlier_version_are_taken_over(redis: Redis) -> None:
    deliveries = [await queue_old(redis, number, due_ms=number) for number in range(1, 451)]
    await redis.set(keys.DEFAULT_RETRY_KEY_PREFIX + deliveries[0].id, 3, ex=100)
    assert await DefaultQueueWatch(redis).take_over() == 450
    assert await redis.zrange(keys.JOB_QUEUE, 0, -1, withscores=True) == [
        (delivery.id.encode(), number) for number, delivery in enumerate(deliveries, 1)
    ]
    assert await redis.get(keys.JOB_KEY_PREFIX + deliveries[0].id) == job_payload(deliveries[0], 1)
    assert await redis.get(keys.RETRY_KEY_PREFIX + deliveries[0].id) == b"3"
    assert await redis.keys("arq:*") == []


async def test_job_that_an_earlier_worker_holds_stays_until_its_lease_lapses(redis: Redis) -> None:
    held = await queue_old(redis, 1)
    await redis.set(keys.DEFAULT_IN_PROGRESS_KEY_PREFIX + held.id, "an old worker", px=50_000)
    watch = DefaultQueueWatch(redis)
    assert await watch.take_over() == 0
    await redis.delete(keys.DEFAULT_IN_PROGRESS_KEY_PREFIX + held.id)
    assert await watch.take_over() == 1


async def test_foreign_jobs_are_left_alone_and_reported_once(redis: Redis, capsys: pytest.CaptureFixture[str]) -> None:
    for name, payload in FOREIGN.items():
        await redis.set(keys.DEFAULT_JOB_KEY_PREFIX + name, payload)
        await redis.zadd(keys.DEFAULT_QUEUE, {name: 1})
    await redis.zadd(keys.DEFAULT_QUEUE, {"job without payload": 1})
    ours = await queue_old(redis, 1)
    watch = DefaultQueueWatch(redis)
    assert [await watch.take_over() for _ in range(3)] == [1, 0, 0]
    assert await redis.zcard(keys.DEFAULT_QUEUE) == len(FOREIGN) + 1
    assert await redis.zrange(keys.JOB_QUEUE, 0, -1) == [ours.id.encode()]
    assert set((await read_default_queue(redis)).foreign) == {name.encode() for name in FOREIGN}
    assert capsys.readouterr().out.count("foreign_jobs") == 1


async def test_queue_of_another_type_is_left_alone(redis: Redis) -> None:
    await redis.set(keys.DEFAULT_QUEUE, "text")
    assert await DefaultQueueWatch(redis).take_over() == 0
