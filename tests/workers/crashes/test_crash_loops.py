"""workers.queue.crash_loops: deliveries and events that kill their workers."""

import pytest
from redis.asyncio import Redis

from spokes.core.events import Event
from spokes.core.redis import keys
from spokes.core.redis.keys import JOB_QUEUE
from tests.workers.harness import KEYS, PORTAL, Harness, change
from workers.delivery.run_delivery import run_delivery
from workers.queue.claimed_job import ClaimedJob
from workers.queue.crash_loops import SUSPECT_FROM_TRY, blame_events, wait_s

_DAY_S = 86_400


async def test_event_that_killed_three_workers_becomes_a_dead_letter(harness: Harness) -> None:
    key = KEYS(Event(change("x", 1)))
    await harness.redis.set(keys.crash_count(PORTAL, key), 3, ex=_DAY_S)
    await harness.run((change("x", 1),), attempt=4)
    assert await harness.outcomes() == [("dead", "crash_loop")]


async def test_delivery_whose_workers_died_is_split(harness: Harness, redis: Redis) -> None:
    await harness.run((change("x", 1), change("y", 1, object_id=2)), attempt=4)
    assert (await redis.zcard(JOB_QUEUE), await harness.outcomes()) == (2, [("parked", "worker_died")] * 2)


async def test_postponed_run_of_a_suspect_keeps_its_count_and_runs_alone_again(harness: Harness, redis: Redis) -> None:
    key = keys.crash_count(PORTAL, KEYS(Event(change("x", 1))))
    await redis.set(key, 1, ex=_DAY_S - 60)
    await harness.pauses.pause(PORTAL, "operator")
    await harness.run((change("x", 1),), attempt=SUSPECT_FROM_TRY)
    (postponed,) = await redis.zrange(JOB_QUEUE, 0, -1)
    tries = await redis.get(keys.RETRY_KEY_PREFIX + postponed.decode())
    assert (await redis.get(key), tries) == (b"1", b"%d" % (SUSPECT_FROM_TRY - 1))


@pytest.mark.parametrize("cause", ["portal paused", "lane of the dead worker"])
async def test_events_that_are_parked_after_deaths_take_the_deaths_along(
    harness: Harness, redis: Redis, cause: str
) -> None:
    raws = change("x", 1), change("y", 1, object_id=2)
    if cause == "portal paused":
        await harness.pauses.pause(PORTAL, "operator")
    else:
        for raw in raws:
            object_id = str(raw["objectId"])
            await redis.set(keys.lane(PORTAL, "contact", object_id), "dead worker:1", px=10_000)
    await harness.run(raws, attempt=SUSPECT_FROM_TRY - 1)
    (moved,) = await redis.zrange(JOB_QUEUE, 0, -1)
    assert await redis.get(keys.RETRY_KEY_PREFIX + moved.decode()) == b"%d" % (SUSPECT_FROM_TRY - 2)
    assert {outcome for outcome, _ in await harness.outcomes()} == {"parked"}


async def test_run_in_which_the_handler_ended_clears_the_count(harness: Harness, redis: Redis) -> None:
    key = keys.crash_count(PORTAL, KEYS(Event(change("x", 1))))
    await redis.set(key, 1, ex=_DAY_S - 60)
    await harness.run((change("x", 1),), attempt=SUSPECT_FROM_TRY)
    assert (await redis.exists(key), await harness.outcomes()) == (0, [("processed", "")])


@pytest.mark.parametrize(("crashes", "elapsed_s"), [(1, 5), (2, 15)])
async def test_event_whose_worker_has_just_died_waits_before_it_runs_alone_again(
    harness: Harness, redis: Redis, crashes: int, elapsed_s: int
) -> None:
    key = keys.crash_count(PORTAL, KEYS(Event(change("x", 1))))
    await redis.set(key, crashes, ex=_DAY_S - elapsed_s)
    await harness.run((change("x", 1),), attempt=SUSPECT_FROM_TRY)
    (postponed,) = await redis.zrange(JOB_QUEUE, 0, -1)
    tries = await redis.get(keys.RETRY_KEY_PREFIX + postponed.decode())
    assert (await redis.get(key), tries) == (b"%d" % crashes, b"%d" % (SUSPECT_FROM_TRY - 1))
    assert (harness.calls, await harness.outcomes()) == ([], [("parked", "worker_died")])


@pytest.mark.parametrize(("crashes", "elapsed_s", "left_s"), [(1, 0, 10), (1, 10, 0), (2, 10, 20), (2, 31, 0)])
def test_wait_after_a_death_grows_and_ends(crashes: int, elapsed_s: float, left_s: float) -> None:
    assert wait_s(crashes, elapsed_s) == left_s


async def test_blamed_event_becomes_a_dead_letter_in_its_next_run(harness: Harness, redis: Redis) -> None:
    delivery = await harness.queue(change("x", 1))
    await blame_events(redis, [(delivery.id, delivery.entries[0].key)])
    attempt = await redis.incr(keys.RETRY_KEY_PREFIX + delivery.id)
    await run_delivery(ClaimedJob(delivery.id, delivery.to_job(), attempt), harness.parts)
    assert await harness.outcomes() == [("dead", "crash_loop")]
