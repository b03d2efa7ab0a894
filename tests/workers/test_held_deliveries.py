"""Deliveries of a paused portal: held once, whatever their number, and made due by the end of the pause."""

import asyncio
import os
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from spokes.core import clock
from spokes.core.redis import keys
from spokes.core.redis.outage import RedisOutage
from spokes.queue.held_deliveries import ALL_CALLS, Calls, HeldDeliveries
from spokes.queue.pauses.portal_pauses import OPERATOR, PortalPauses
from tests.support import waiting
from tests.workers.test_arq_worker import Jobs, batch_worker, queue, start, until
from tests.workers.test_arq_worker import jobs as jobs  # noqa: PLC0414 - a fixture
from workers.queue.arq_worker import ArqBatchWorker

PAUSED = 7
MANY = 50_000
HELD = keys.held_deliveries(PAUSED, ALL_CALLS)
SOON_MS = 60_000


@pytest.fixture
async def worker(valkey_url: str, jobs: Jobs) -> AsyncIterator[ArqBatchWorker]:
    worker = batch_worker(valkey_url, jobs)
    yield worker
    tasks = [*worker.tasks.values(), *([worker.main_task] if worker.main_task else [])]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await worker.pool.aclose(close_connection_pool=True)


async def queue_many(redis: Redis, count: int = MANY) -> None:
    """Queue due deliveries of the paused portal; they have no payload, which holding a delivery does not read."""
    for start_at in range(0, count, 10_000):
        ids = range(start_at, min(count, start_at + 10_000))
        await redis.zadd(keys.JOB_QUEUE, {f"{PAUSED}-{number:06x}-a": number + 1 for number in ids})


async def due_count(redis: Redis) -> int:
    return int(await redis.zcount(keys.JOB_QUEUE, "-inf", clock.now_ms() + SOON_MS))


async def until_due(redis: Redis, count: int) -> None:
    """Wait until that many deliveries are due: one that runs is due until it ends."""

    async def are_due() -> bool:
        return await due_count(redis) == count

    await waiting.until(are_due)


async def until_held(redis: Redis, count: int) -> None:
    async with asyncio.timeout(60):
        while await redis.zcard(HELD) < count:  # noqa: ASYNC110 - nothing signals it
            await asyncio.sleep(0.02)


async def test_delivery_among_many_of_a_paused_portal_runs_and_they_are_held(
    redis: Redis, worker: ArqBatchWorker, jobs: Jobs
) -> None:
    await PortalPauses(redis).pause(PAUSED, OPERATOR)
    await queue_many(redis)
    await queue(redis, "8-1-a", at=MANY // 2)
    await start(worker)
    await until(jobs, 1)
    await until_held(redis, MANY)
    await queue(redis, "8-2-a", at=clock.now_ms())
    await until(jobs, 2)
    await until_due(redis, 0)
    assert jobs.names == ["8-1-a", "8-2-a"]
    assert await HeldDeliveries(redis).counts() == {Calls(PAUSED, ALL_CALLS): MANY}


async def test_end_of_the_pause_makes_held_deliveries_due_in_their_order(
    redis: Redis, worker: ArqBatchWorker, jobs: Jobs
) -> None:
    pauses = PortalPauses(redis)
    await pauses.pause(PAUSED, OPERATOR)
    names = [f"{PAUSED}-{number:06x}-a" for number in range(1_200)]
    for number, name in enumerate(names):
        await queue(redis, name, at=number + 1)
    await start(worker)
    await until_held(redis, len(names))
    await pauses.resume(PAUSED)
    await until(jobs, len(names))
    assert sorted(jobs.names) == names
    assert jobs.names[0] == names[0]
    assert not await redis.exists(HELD, keys.HELD_SETS)


async def test_deliveries_whose_pause_ended_with_its_process_are_released_by_any_worker(
    redis: Redis, worker: ArqBatchWorker, jobs: Jobs
) -> None:
    await PortalPauses(redis).pause(PAUSED, OPERATOR)
    await queue(redis, "7-1-a", "7-2-a")
    await start(worker)
    await until_held(redis, 2)
    await redis.hdel(keys.PAUSED_PORTALS, str(PAUSED))
    other = PortalPauses(redis)
    await other.refresh()
    await until(jobs, 2)


async def test_deliveries_of_another_pause_stay_held(redis: Redis, worker: ArqBatchWorker) -> None:
    pauses = PortalPauses(redis)
    await pauses.pause(PAUSED, OPERATOR)
    await queue(redis, "7-1-a")
    await start(worker)
    await until_held(redis, 1)
    await pauses.refresh()
    assert (await redis.zcard(HELD), await due_count(redis)) == (1, 0)


async def test_held_delivery_comes_back_by_itself_for_workers_that_know_no_held_deliveries(
    redis: Redis, worker: ArqBatchWorker
) -> None:
    await PortalPauses(redis).pause(PAUSED, OPERATOR)
    await queue(redis, "7-1-a")
    await start(worker)
    await until_held(redis, 1)
    due_at = await redis.zscore(keys.JOB_QUEUE, "7-1-a")
    assert due_at is not None
    assert due_at <= clock.now_ms() + 600_000


@pytest.mark.parametrize("key", [HELD, keys.HELD_SETS])
async def test_key_of_a_wrong_type_delays_jobs_of_the_paused_portal_alone(
    redis: Redis, worker: ArqBatchWorker, jobs: Jobs, key: str
) -> None:
    await redis.set(key, "foreign")
    pauses = PortalPauses(redis)
    await pauses.pause(PAUSED, OPERATOR)
    await queue(redis, "7-1-a", "8-1-a")
    await start(worker)
    await until(jobs, 1)
    await pauses.refresh()
    assert jobs.names == ["8-1-a"]
    await until_due(redis, 1)


async def test_set_of_another_type_costs_its_own_release_alone(redis: Redis) -> None:
    await redis.sadd(keys.HELD_SETS, "7:all", "8:all", "nonsense")
    await redis.set(HELD, "foreign")
    await redis.zadd(keys.held_deliveries(8, ALL_CALLS), {"8-1-a": 1})
    await redis.zadd(keys.IMPORT_QUEUE, {"8-1-a": clock.now_ms() + 500_000})
    await PortalPauses(redis).refresh()
    assert await redis.zscore(keys.IMPORT_QUEUE, "8-1-a") <= clock.now_ms()
    assert await HeldDeliveries(redis).counts() == {}


async def test_worker_killed_while_it_holds_deliveries_loses_none(redis: Redis, valkey_url: str, jobs: Jobs) -> None:
    """One call holds a delivery: it is due, or due later and in the set."""
    await PortalPauses(redis).pause(PAUSED, OPERATOR)
    await queue_many(redis)
    killed = batch_worker(valkey_url, jobs, holder=os.urandom(4).hex(), outage=RedisOutage())
    killed.ctx["redis"] = killed.pool
    await killed._claim_jobs()  # one call, then nothing more
    held = set(await redis.zrange(HELD, 0, -1))
    later = set(await redis.zrangebyscore(keys.JOB_QUEUE, clock.now_ms() + SOON_MS, "+inf"))
    assert (held, await redis.zcard(keys.JOB_QUEUE)) == (later, MANY)
    assert 0 < len(held) < MANY
    await killed.pool.aclose(close_connection_pool=True)
