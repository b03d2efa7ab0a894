"""workers.delivery.run_delivery: how deliveries wait for lanes, hold them and release them."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from spokes.core.redis import keys
from tests.support.waiting import until
from tests.workers.harness import PORTAL, Harness, change
from workers.delivery.delivery_run import DeliveryRun, postpone
from workers.lanes.lanes import Lane
from workers.lanes.resolution import LEASE_LOST
from workers.queue.leases import Lease


async def test_burst_that_waits_for_another_process_reaches_the_handler_once(harness: Harness, redis: Redis) -> None:
    """Each delivery tries again on its own; the first that acquires the lane takes the items of the others along."""
    lane = keys.lane(PORTAL, "contact", "1")
    await redis.set(lane, "another:1", px=10_000)
    runs = []
    for at in range(1, 6):
        runs.append(asyncio.create_task(harness.run((change(str(at), at),))))
        await until(lambda at=at: len(harness.parts.lanes._waiting.get(lane, ())) == at)  # type: ignore[misc]  # mypy knows no lambda with a default
    await redis.delete(lane)
    await asyncio.gather(*runs)
    assert harness.calls == [("1", "1", "5", 4)]
    assert harness.parts.lanes._waiting == {}


async def test_event_whose_object_stays_busy_elsewhere_is_postponed(harness: Harness, redis: Redis) -> None:
    await redis.set(keys.lane(PORTAL, "contact", "1"), "another:1", px=10_000)
    await harness.run((change("a", 1), change("b", 2, object_id=2)))
    assert sorted(await harness.outcomes()) == [("parked", "object_busy"), ("processed", "")]
    assert harness.parts.lanes._waiting == {}


@pytest.mark.parametrize("settled", ["", "key of another event"])
async def test_event_is_not_started_by_another_delivery_once_it_is_postponed(
    harness: Harness, redis: Redis, settled: str
) -> None:
    parts, lane = harness.parts, keys.lane(PORTAL, "contact", "1")
    script = parts.lanes._script
    late, other = [
        DeliveryRun(await harness.queue(change(value, at)), parts.settlement, parts.settings, parts.router)
        for at, value in enumerate(("late", "other"), 1)
    ]
    if settled:
        await redis.sadd(keys.settled_events(PORTAL, late.delivery.id), settled)
    await redis.set(lane, "another:1", px=10_000)
    assert await parts.lanes.acquire(late, late.items) == late.items
    await redis.delete(lane)

    async def postpone_during_call(args: list[str | int]) -> Any:
        answer = await script(args=args)
        postpone(parts.lanes.cancel_waiting(late.items), LEASE_LOST)
        return answer

    parts.lanes._script = postpone_during_call  # type: ignore[assignment]
    await parts.lanes.acquire(other, other.items)
    async with asyncio.timeout(20):
        assert [await run.finished() for run in (late, other)] == [True, True]
    assert [call[2] for call in harness.calls] == ["other"]
    assert [outcome for outcome, _ in await harness.outcomes()] == ["parked", "processed"]
    assert late._remaining == 0


async def test_lane_stays_leased_until_its_steps_are_settled(harness: Harness) -> None:
    group_commit = harness.parts.settlement._group_commit
    commit, has_begun, go_on = group_commit._commit, asyncio.Event(), asyncio.Event()

    async def wait_and_commit(requests: list[Any]) -> Any:
        has_begun.set()
        await go_on.wait()
        return await commit(requests)

    group_commit._commit = wait_and_commit
    run = asyncio.create_task(harness.run((change("x", 1),)))
    await has_begun.wait()
    await asyncio.sleep(0.05)
    leased = [lease.key for lease in harness.parts.leases()]
    go_on.set()
    await run
    assert (leased, harness.parts.leases()) == ([keys.lane(PORTAL, "contact", "1")], [])


async def test_renewal_extends_only_our_own_lane(harness: Harness) -> None:
    lane = harness.parts.lanes.held["lane"] = Lane("lane", "me:1", 5.0)
    harness.parts.lease_renewed(Lease("lane", "another:1"), 9.0)
    assert lane.lease_until == 5.0
    harness.parts.lease_renewed(Lease("lane", "me:1"), 9.0)
    assert lane.lease_until == 9.0
