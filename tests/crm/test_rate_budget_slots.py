"""spokes.crm.transport.rate_budget: what stands in Redis for a place, and what is left of one that went wrong."""

import asyncio
import time
from contextlib import suppress
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as Disconnected

from spokes.core.errors import CRMUnavailable, RateLimited, TransientCRMError
from spokes.crm.transport.rate_budget import CallKind, Priority, RateBudget

PORTAL = 50112233


def make_budget(redis: Redis, *, concurrency: int = 32) -> RateBudget:
    return RateBudget(redis, limit=5, search_limit=5, window_s=100.0, call_timeout_s=1_000.0, concurrency=concurrency)


async def slot_returns_in_s(redis: Redis, kind: str) -> float:
    """In how many seconds the only place that is taken comes back."""
    ((_, at),) = await redis.zrange(f"spokes:{PORTAL}:budget:{kind}", 0, -1, withscores=True)
    seconds, micro = await redis.time()
    return float(at) / 1e6 - seconds - micro / 1e6


@pytest.mark.parametrize(("kind", "window_s"), [("calls", 100.0), ("search", 1.0)])
async def test_place_is_held_for_a_call_and_a_window_and_then_for_a_window_of_its_kind(
    redis: Redis, kind: CallKind, window_s: float
) -> None:
    before = time.monotonic()
    async with make_budget(redis).slot(PORTAL, kind):
        held_s = await slot_returns_in_s(redis, kind)
    left_s, took_s = await slot_returns_in_s(redis, kind), time.monotonic() - before
    assert window_s + 1_000 - took_s <= held_s <= window_s + 1_000
    assert window_s - took_s <= left_s <= window_s


async def test_pause_has_no_reason_unless_one_is_given(redis: Redis) -> None:
    budget = make_budget(redis)
    await budget.pause(PORTAL, "calls", 30)
    await budget.pause(PORTAL, "search", 30, "SECONDLY")
    states = await budget.state(PORTAL)
    assert (states["calls"].reason, states["search"].reason, states["associations"].reason) == ("", "SECONDLY", "")


async def test_place_that_redis_gave_and_could_not_tell_of_is_given_back(redis: Redis) -> None:
    budget = make_budget(redis)
    script = budget._script

    async def lossy(*, keys: list[str], args: list[Any]) -> Any:
        told = await script(keys=keys, args=args)
        if args[0] == "take":
            raise Disconnected("after Redis has done it")
        return told

    budget._script = lossy  # type: ignore[assignment]  # the real one, behind a bad line
    with pytest.raises(CRMUnavailable):
        await budget._acquire_slot(PORTAL, "calls", "lost", "interactive")
    assert (await budget.state(PORTAL))["calls"].used == 0


async def test_failure_to_get_a_place_costs_no_thread() -> None:
    budget = make_budget(Redis(port=1), concurrency=1)
    for _ in range(3):
        with pytest.raises(CRMUnavailable):
            async with asyncio.timeout(20), budget.slot(PORTAL, "calls"):
                pytest.fail("there is no Redis")


async def count_granted(budget: RateBudget, kind: CallKind, priority: Priority) -> int:
    """How many places are given before one has to be waited for."""
    taken = 0
    with suppress(TimeoutError):
        while True:
            async with asyncio.timeout(0.2):
                await budget._acquire_slot(PORTAL, kind, f"{priority}{taken}", priority)
            taken += 1
    return taken


async def test_window_and_longest_call_are_hubspots_own_unless_told(redis: Redis) -> None:
    budget = RateBudget(redis, limit=5, search_limit=5)
    async with budget.slot(PORTAL, "calls"):
        held_s = await slot_returns_in_s(redis, "calls")
    left_s = await slot_returns_in_s(redis, "calls")
    assert (round(held_s), round(left_s)) == (32, 10)


async def test_associations_have_a_hundred_calls_a_window_unless_told(redis: Redis) -> None:
    assert (await RateBudget(redis, limit=5, search_limit=5).state(PORTAL))["associations"].limit == 100


async def test_tenth_is_reserved_unless_told(redis: Redis) -> None:
    budget = RateBudget(redis, limit=20, search_limit=5)
    assert await count_granted(budget, "calls", "background") == 18
    assert await count_granted(budget, "calls", "interactive") == 2


async def test_portal_has_three_quarters_of_thirty_two_threads_unless_told(redis: Redis) -> None:
    budget = RateBudget(redis, limit=50, search_limit=5)
    assert await count_granted(budget, "calls", "interactive") == 24


async def test_pause_of_more_than_half_a_minute_is_refused_and_a_shorter_one_sat_out_unless_told(redis: Redis) -> None:
    budget = RateBudget(redis, limit=5, search_limit=5)
    await budget.pause(PORTAL, "calls", 29, "SECONDLY")
    assert await count_granted(budget, "calls", "interactive") == 0
    await budget.pause(PORTAL, "calls", 30.9, "SECONDLY")
    with pytest.raises(TransientCRMError) as caught:
        await count_granted(budget, "calls", "interactive")
    assert 30 < caught.value.retry_after_s <= 30.9


async def test_call_that_nobody_knew_whose_it_was_takes_a_place_for_a_window(redis: Redis) -> None:
    budget = make_budget(redis)
    await budget.count_call(PORTAL)
    assert 99 < await slot_returns_in_s(redis, "calls") <= 100
    for _ in range(6):
        await budget.count_call(PORTAL)
    assert (await budget.state(PORTAL))["calls"].used == 5


async def test_call_that_cannot_be_counted_is_no_fault() -> None:
    await make_budget(Redis(port=1)).count_call(PORTAL)


async def test_call_that_has_ended_is_no_fault_when_redis_has_gone(redis: Redis) -> None:
    budget = make_budget(redis)
    async with budget.slot(PORTAL, "calls"):
        budget._script = redis_away  # type: ignore[assignment]  # the real one has nowhere to go


async def test_pause_of_a_call_is_no_fault_when_redis_has_gone(redis: Redis) -> None:
    budget = make_budget(redis)

    async def limited_call() -> None:
        async with budget.slot(PORTAL, "calls"):
            budget._script = redis_away  # type: ignore[assignment]  # as above
            raise RateLimited(retry_after_s=3)

    with pytest.raises(RateLimited):
        await limited_call()


@pytest.mark.parametrize(("wait_s", "nap_s"), [(29, 5.0), (2, 2.0)])
async def test_who_waits_sleeps_until_then_and_a_hair_more_but_never_longer_than_five_seconds(
    redis: Redis, monkeypatch: pytest.MonkeyPatch, wait_s: float, nap_s: float
) -> None:
    naps: list[float] = []

    async def awake_at_once(seconds: float) -> None:
        naps.append(seconds)
        raise asyncio.CancelledError

    budget = make_budget(redis)
    before = time.monotonic()
    await budget.pause(PORTAL, "calls", wait_s, "SECONDLY")
    monkeypatch.setattr("spokes.crm.transport.rate_budget.asyncio.sleep", awake_at_once)
    with pytest.raises(asyncio.CancelledError):
        await budget._acquire_slot(PORTAL, "calls", "one", "interactive")
    late_s = time.monotonic() - before if wait_s == nap_s else 0
    assert nap_s - late_s <= naps[0] <= nap_s + 0.003


async def test_who_waits_for_a_place_holds_no_thread(redis: Redis) -> None:
    budget = RateBudget(redis, limit=1, search_limit=5, window_s=0.05, concurrency=1)
    async with asyncio.timeout(20):
        for _ in range(3):
            async with budget.slot(PORTAL, "calls"):
                pass


async def test_answer_to_a_search_changes_no_limit(redis: Redis) -> None:
    budget = make_budget(redis)
    async with budget.slot(PORTAL, "search") as place:
        place.read_headers({"x-hubspot-ratelimit-max": "190"})
    assert (await budget.state(PORTAL))["search"].limit == 5


async def redis_away(*, keys: list[str], args: list[Any]) -> Any:
    """What a script meets when Redis has gone."""
    raise Disconnected("gone")
