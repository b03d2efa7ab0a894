"""Limits that a handler declares, on a real Valkey: they hold across workers, and a killed one holds nothing."""

import asyncio
from typing import TYPE_CHECKING

import pytest

from spokes.core.delivery import decode
from spokes.core.errors import RetryLater
from spokes.core.events import Event
from spokes.core.redis import keys
from spokes.core.redis.key_names.handler_keys import handler_runs
from spokes.core.redis.outage import RedisOutage
from spokes.routing import Router, Uses
from spokes.run_limits import RunLimits, read_run_limits
from spokes.tools import Tools
from tests.workers.harness import PORTAL, Harness, object_event
from workers.delivery.run_delivery import WorkerParts, run_delivery
from workers.handlers.limits import HandlerLimits
from workers.lanes.lanes import Lane
from workers.queue.claimed_job import ClaimedJob

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@pytest.fixture
def handler_timeout_s() -> float:
    return 0.4


class Workers:
    """Two workers with one limited handler."""

    def __init__(self, harness: Harness, does: "Callable[[Event], Awaitable[None]]", **limits: object) -> None:
        self.harness = harness
        declared, faults = read_run_limits(
            limits.get("timeout_s"), limits.get("retries"), limits.get("concurrency"), limits.get("rate")
        )
        assert not faults
        router = Router()

        async def limited(event: Event, tools: Tools) -> None:
            await does(event)

        limited.__spokes_uses__ = Uses(limits=declared)  # type: ignore[attr-defined]  # as @uses declares it
        router.register("contact.creation")(limited)
        parts = harness.parts
        self.workers = [
            WorkerParts.start(
                parts.settings, harness.redis, router, harness.crm, harness.pauses, holder=holder, outage=RedisOutage()
            )
            for holder in ("one", "two")
        ]

    async def run(self, count: int) -> None:
        """Run as many events, each of another object, half of them in each worker."""
        for number in range(count):
            await self.harness.queue(object_event("creation", number + 1))
        await self.run_queued()

    async def run_queued(self) -> None:
        """Run every queued delivery once, due or not."""
        names = [name.decode() for name in await self.harness.redis.zrange(keys.JOB_QUEUE, 0, -1)]
        jobs = []
        for number, name in enumerate(names):
            payload = await self.harness.redis.get(keys.JOB_KEY_PREFIX + name)
            jobs.append(run_delivery(ClaimedJob(name, _argument(payload), 1), self.workers[number % 2]))
        await asyncio.gather(*jobs)

    async def close(self) -> None:
        for worker in self.workers:
            await worker.close()


def _argument(payload: bytes) -> object:
    return decode(payload)["a"][0]


async def test_concurrency_holds_across_workers_and_every_event_runs(harness: Harness) -> None:
    running, most = 0, 0

    async def run(event: Event) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.05)
        running -= 1

    workers = Workers(harness, run, concurrency=2)
    await workers.run(8)
    while await harness.redis.zcard(keys.JOB_QUEUE):
        await workers.run_queued()
    assert most == 2
    outcomes = await harness.outcomes()
    assert outcomes.count(("processed", "")) == 8
    assert set(outcomes) <= {("processed", ""), ("parked", "handler_limited")}
    await workers.close()


async def test_rate_holds_across_workers_in_every_period(harness: Harness) -> None:
    starts: list[float] = []

    async def run(event: Event) -> None:
        seconds, micros = await harness.redis.time()
        starts.append(seconds + micros / 1e6)

    workers = Workers(harness, run, rate="3/s")
    await workers.run(5)
    while await harness.redis.zcard(keys.JOB_QUEUE):
        await workers.run_queued()
    assert len(starts) == 5
    assert starts[3] - starts[0] >= 0.9  # by Redis' clock; the start is counted a moment before the handler runs
    await workers.close()


async def test_runs_of_a_killed_worker_count_until_their_lanes_are_free(harness: Harness) -> None:
    router = Router()

    async def handler(event: Event, tools: Tools) -> None:
        del event, tools

    handler.__spokes_uses__ = Uses(limits=RunLimits(concurrency=1))  # type: ignore[attr-defined]  # as above
    router.register("contact.creation")(handler)
    ((_, route),) = router
    dead, alive = _lane("1", "dead"), _lane("2", "alive")
    await harness.redis.set(dead.key, dead.token)
    await harness.redis.set(alive.key, alive.token)
    limits = HandlerLimits(harness.redis)
    assert await limits.start(route, dead) == 0
    assert await limits._try(route, alive) > 0
    await harness.redis.delete(dead.key)  # its lease has expired
    assert await limits.start(route, alive) == 0
    assert await harness.redis.hkeys(handler_runs(route.name)) == [alive.key.encode()]  # type: ignore[misc]  # redis-py types one class for sync and async


@pytest.mark.parametrize(("retries", "runs"), [((), 1), ((0.01,), 2), ((0.01, 0.01, 0.01), 4)])
async def test_declared_retries_replace_those_of_the_deployment(
    harness: Harness, retries: tuple[float, ...], runs: int
) -> None:
    calls = 0

    async def fail(event: Event) -> None:
        nonlocal calls
        calls += 1
        raise RetryLater(0.01)

    workers = Workers(harness, fail, retries=retries)
    await workers.run(1)
    while await harness.redis.zcard(keys.JOB_QUEUE):
        await workers.run_queued()
    assert calls == runs
    assert (await harness.outcomes())[-1] == ("dead", "retry_later")
    await workers.close()


async def test_declared_time_out_replaces_that_of_the_deployment(harness: Harness) -> None:
    async def wait(event: Event) -> None:
        await asyncio.sleep(30)

    workers = Workers(harness, wait, timeout_s=0.05, retries=())
    await workers.run(1)
    assert await harness.outcomes() == [("dead", "handler_timeout")]
    await workers.close()


async def test_longer_time_out_than_that_of_the_deployment_is_waited_for(harness: Harness) -> None:
    async def wait(event: Event) -> None:
        await asyncio.sleep(0.9)  # HANDLER_TIMEOUT_S of these tests is 0.4

    workers = Workers(harness, wait, timeout_s=60)
    await workers.run(1)
    assert await harness.outcomes() == [("processed", "")]
    await workers.close()


def _lane(object_id: str, token: str) -> Lane:
    return Lane(keys.lane(PORTAL, "contact", object_id), token, 1e12)
