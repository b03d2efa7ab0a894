"""When slots come back if round trips have a part in common: rate_budget.lua on a clock of its own."""

import heapq
import random
import time
from collections.abc import Callable
from typing import Final

import pytest
from redis.asyncio import Redis

from tests.support.clocked_budget import SECOND, ClockedBudget

LIMIT: Final = 60
WINDOW_S: Final = 10.0
ROUND_TRIP_S: Final = 0.5

Leg = Callable[[], float]  # seconds that a part of a call takes


def make_budget(redis: Redis, limit: int = LIMIT) -> ClockedBudget:
    return ClockedBudget(redis, limit=limit, window_s=WINDOW_S)


async def calls_end(budget: ClockedBudget, round_trips_s: list[float], *, start_s: float = 0.0) -> None:
    """Grant a call each 10 ms, and end it after its round trip."""
    for number, round_trip_s in enumerate(round_trips_s):
        granted_s = start_s + number * 0.01
        is_granted, *_ = await budget.take(f"{start_s} {number}", granted_s)
        assert is_granted
        await budget.end(f"{start_s} {number}", granted_s + round_trip_s, round_trip_s)


async def wait_s(budget: ClockedBudget, now_s: float) -> float:
    """Return how long a call that comes now waits for a slot."""
    is_granted, wait, *_ = await budget.take("probe", now_s)
    return 0.0 if is_granted else wait / SECOND


async def test_slot_comes_back_a_window_after_the_grant_when_all_round_trips_are_equal(redis: Redis) -> None:
    budget = make_budget(redis)
    await calls_end(budget, [ROUND_TRIP_S] * LIMIT)
    assert await wait_s(budget, 2.0) == pytest.approx(WINDOW_S - 2.0, abs=0.001)


async def test_slot_comes_back_a_window_after_the_end_while_few_calls_have_ended(redis: Redis) -> None:
    budget = make_budget(redis, limit=19)
    await calls_end(budget, [ROUND_TRIP_S] * 19)
    assert await wait_s(budget, 2.0) == pytest.approx(WINDOW_S + ROUND_TRIP_S - 2.0, abs=0.001)


async def test_twenty_calls_are_enough_to_know_what_they_have_in_common(redis: Redis) -> None:
    budget = make_budget(redis, limit=20)
    await calls_end(budget, [ROUND_TRIP_S] * 20)
    assert await wait_s(budget, 2.0) == pytest.approx(WINDOW_S - 2.0, abs=0.001)


async def test_period_after_one_of_twenty_calls_brings_slots_back_early(redis: Redis) -> None:
    budget = make_budget(redis, limit=20)
    await calls_end(budget, [ROUND_TRIP_S] * 20)
    await calls_end(budget, [ROUND_TRIP_S] * 20, start_s=10.6)
    assert await wait_s(budget, 12.0) == pytest.approx(10.6 + WINDOW_S - 12.0, abs=0.001)


async def test_what_round_trips_take_longer_on_average_delays_every_slot(redis: Redis) -> None:
    budget = make_budget(redis)
    await calls_end(budget, [0.5, 0.7] * (LIMIT // 2))
    common_s = 2 * 0.5 - 0.6
    assert await wait_s(budget, 2.0) == pytest.approx(WINDOW_S + 0.5 - common_s - 2.0, abs=0.001)


async def test_round_trips_that_differ_as_much_as_the_shortest_have_nothing_in_common(redis: Redis) -> None:
    budget = make_budget(redis)
    await calls_end(budget, [0.1, 0.5] * (LIMIT // 2))
    assert await wait_s(budget, 2.0) == pytest.approx(WINDOW_S + 0.1 - 2.0, abs=0.001)


async def test_call_that_took_longer_than_the_others_keeps_its_slot_longer(redis: Redis) -> None:
    budget = make_budget(redis, limit=100)
    await calls_end(budget, [2.5, *[ROUND_TRIP_S] * 99])
    for number in range(99):
        assert (await budget.take(f"later {number}", 11.6))[0]
    average_s = (2.5 + 99 * ROUND_TRIP_S) / 100
    assert await wait_s(budget, 11.6) == pytest.approx(
        WINDOW_S + 2.5 - (2 * ROUND_TRIP_S - average_s) - 11.6, abs=0.001
    )


@pytest.mark.parametrize("round_trip_s", [0.0, 0.01])
async def test_one_short_round_trip_delays_the_slots_of_all_calls(redis: Redis, round_trip_s: float) -> None:
    budget = make_budget(redis)
    await calls_end(budget, [ROUND_TRIP_S] * (LIMIT - 1))
    await calls_end(budget, [round_trip_s], start_s=1.5)
    assert await wait_s(budget, 2.0) == pytest.approx(WINDOW_S + ROUND_TRIP_S - 2.0, abs=0.001)


async def test_period_after_one_of_few_calls_brings_slots_back_no_earlier(redis: Redis) -> None:
    budget = make_budget(redis, limit=5)
    await calls_end(budget, [ROUND_TRIP_S] * 5)
    await calls_end(budget, [ROUND_TRIP_S] * 5, start_s=10.6)
    assert await wait_s(budget, 12.0) == pytest.approx(10.6 + WINDOW_S + ROUND_TRIP_S - 12.0, abs=0.001)


async def test_slots_come_back_early_in_the_period_after_one_of_many_calls(redis: Redis) -> None:
    budget = make_budget(redis)
    await calls_end(budget, [ROUND_TRIP_S] * LIMIT)
    await calls_end(budget, [ROUND_TRIP_S] * LIMIT, start_s=10.6)
    assert await wait_s(budget, 12.0) == pytest.approx(10.6 + WINDOW_S - 12.0, abs=0.001)


async def test_round_trips_of_the_period_before_count_too(redis: Redis) -> None:
    budget = make_budget(redis)
    await calls_end(budget, [0.1] * LIMIT)
    await calls_end(budget, [ROUND_TRIP_S] * LIMIT, start_s=10.6)
    assert await wait_s(budget, 12.0) == pytest.approx(10.6 + WINDOW_S + ROUND_TRIP_S - 0.1 - 12.0, abs=0.001)


async def test_round_trips_are_forgotten_after_two_periods_without_a_call(redis: Redis) -> None:
    budget, before = make_budget(redis), time.monotonic()
    await calls_end(budget, [ROUND_TRIP_S])
    kept_s = await redis.pttl("round trips") / 1000
    assert 2 * WINDOW_S - (time.monotonic() - before) - 0.002 <= kept_s <= 2 * WINDOW_S


async def most_in_a_window(redis: Redis, there: Leg, back: Leg, seconds: float) -> tuple[int, float]:
    """Make calls as fast as they are granted; return the most that HubSpot counts in a window, and the share used."""
    budget, arrivals, ends, now_s, number = make_budget(redis), list[float](), list[tuple[float, str, float]](), 0.0, 0
    while now_s < seconds:
        while ends and ends[0][0] <= now_s:
            ended_s, slot, round_trip_s = heapq.heappop(ends)
            await budget.end(slot, ended_s, round_trip_s)
        number += 1
        is_granted, wait, *_ = await budget.take(f"{number}", now_s)
        if is_granted:
            there_s, back_s = there(), back()
            arrivals.append(now_s + there_s)
            heapq.heappush(ends, (now_s + there_s + back_s, f"{number}", there_s + back_s))
        else:
            due_s = now_s + wait / SECOND
            now_s = max(min(due_s, ends[0][0]) if ends else due_s, now_s + 0.0001)
    arrivals.sort()
    most = max(sum(at <= other < at + WINDOW_S - 2 / SECOND for other in arrivals[i:]) for i, at in enumerate(arrivals))
    later = [at for at in arrivals if 2 * WINDOW_S <= at < seconds]
    return most, len(later) / LIMIT / ((seconds - 2 * WINDOW_S) / WINDOW_S)


async def test_limit_is_used_whole_with_slow_answers(redis: Redis) -> None:
    most, share = await most_in_a_window(redis, lambda: 0.002, lambda: 0.5, 60)
    assert most == LIMIT
    assert share >= 0.99


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("there_s", "back_s"),
    [((0.0, 0.05), (0.5, 0.5)), ((0.0, 0.3), (0.0, 0.3)), ((0.0, 0.01), (0.1, 1.5)), ((0.2, 0.9), (0.01, 0.02))],
    ids=["slow answers", "anything", "answers differ", "slow ways there"],
)
async def test_limit_is_exceeded_in_no_window_whatever_takes_time(
    redis: Redis, there_s: tuple[float, float], back_s: tuple[float, float], seed: int
) -> None:
    chance = random.Random(seed)
    most, _ = await most_in_a_window(redis, lambda: chance.uniform(*there_s), lambda: chance.uniform(*back_s), 40)
    assert most <= LIMIT


async def test_limit_is_exceeded_in_no_window_when_a_proxy_delays_calls_for_a_while(redis: Redis) -> None:
    chance = random.Random(5)
    most, _ = await most_in_a_window(
        redis, lambda: 2.0 if chance.random() < 0.1 else 0.01, lambda: 0.4 + 0.01 * chance.random(), 60
    )
    assert most <= LIMIT
