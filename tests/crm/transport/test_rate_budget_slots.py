"""Slots of the rate budget: their entries in Redis, defaults, and cleanup after failures."""

import asyncio
import time
from contextlib import suppress
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as Disconnected

from spokes.core.errors import CRMUnavailable, RateLimited, TransientCRMError
from spokes.core.priority import Priority
from spokes.core.redis.key_names import budget_keys
from spokes.crm.transport.rate_budget import CallKind, RateBudget

PORTAL = 50112233


def make_budget(redis: Redis, *, concurrency: int = 32) -> RateBudget:
    return RateBudget(redis, limit=5, search_limit=5, window_s=100.0, call_timeout_s=1_000.0, concurrency=concurrency)


async def slot_returns_in_s(redis: Redis, kind: str) -> float:
    """Return the seconds until the only slot returns."""
    ((_, at),) = await redis.zrange(f"spokes:{PORTAL}:budget:{kind}", 0, -1, withscores=True)
    seconds, micro = await redis.time()
    return float(at) / 1e6 - seconds - micro / 1e6


@pytest.mark.parametrize(("kind", "window_s"), [("calls", 100.0), ("search", 1.0)])
async def test_slot_is_held_for_a_call_and_a_window_and_then_for_a_window_of_its_kind(
    redis: Redis, kind: CallKind, window_s: float
) -> None:
    before = time.monotonic()
    async with make_budget(redis).slot(PORTAL, kind):
        held_s = await slot_returns_in_s(redis, kind)
    left_s, took_s = await slot_returns_in_s(redis, kind), time.monotonic() - before
    assert window_s + 1_000 - took_s <= held_s <= window_s + 1_000
    assert window_s - took_s <= left_s <= window_s


async def test_pause_has_no_reason_by_default(redis: Redis) -> None:
    budget = make_budget(redis)
    await budget.pause(PORTAL, "calls", 30)
    await budget.pause(PORTAL, "search", 30, "SECONDLY")
    states = await budget.state(PORTAL)
    assert (states["calls"].reason, states["search"].reason, states["associations"].reason) == ("", "SECONDLY", "")


async def test_slot_granted_in_a_lost_answer_is_released(redis: Redis) -> None:
    budget = make_budget(redis)
    script = budget._script

    async def lossy(*, keys: list[str], args: list[Any]) -> Any:
        answer = await script(keys=keys, args=args)
        if args[0] == "take":
            raise Disconnected("after Redis has done it")
        return answer

    budget._script = lossy  # type: ignore[assignment]  # the real one, behind a bad line
    with pytest.raises(CRMUnavailable):
        await budget._acquire_slot(PORTAL, "calls", "lost", "interactive")
    assert (await budget.state(PORTAL))["calls"].used == 0


async def test_failure_to_acquire_a_slot_costs_no_thread() -> None:
    budget = make_budget(Redis(port=1), concurrency=1)
    for _ in range(3):
        with pytest.raises(CRMUnavailable):
            async with asyncio.timeout(20), budget.slot(PORTAL, "calls"):
                pytest.fail("there is no Redis")


class MustWait(Exception):
    """A call would wait for a slot now."""


async def count_granted(budget: RateBudget, kind: CallKind, priority: Priority, *, wait_s: float = 20) -> int:
    """Return how many slots are granted before a call has to wait: for a slot, or `wait_s` for a thread."""

    async def wait(_: float) -> None:
        raise MustWait

    budget.sleep = wait
    granted = 0
    with suppress(TimeoutError, MustWait):
        while True:
            async with asyncio.timeout(wait_s):
                await budget._acquire_slot(PORTAL, kind, f"{priority}{granted}", priority)
            granted += 1
    return granted


async def test_default_window_and_call_timeout(redis: Redis) -> None:
    budget = RateBudget(redis, limit=5, search_limit=5)
    async with budget.slot(PORTAL, "calls"):
        held_s = await slot_returns_in_s(redis, "calls")
    left_s = await slot_returns_in_s(redis, "calls")
    assert (20 < held_s <= 32, 5 < left_s <= 10) == (True, True)


async def test_default_association_limit_is_a_hundred(redis: Redis) -> None:
    assert (await RateBudget(redis, limit=5, search_limit=5).state(PORTAL))["associations"].limit == 100


async def test_default_reserve_is_a_twentieth(redis: Redis) -> None:
    budget = RateBudget(redis, limit=20, search_limit=5)
    assert await count_granted(budget, "calls", "interactive") == 20
    await redis.zremrangebyrank(budget_keys.rate_budget_slots(PORTAL, "calls"), 0, 1)  # two return
    assert await count_granted(budget, "calls", "import") == 1


async def test_default_portal_share_is_three_quarters_of_32_threads(redis: Redis) -> None:
    budget = RateBudget(redis, limit=50, search_limit=5)
    assert await count_granted(budget, "calls", "interactive", wait_s=1) == 24


async def test_default_longest_pause_waited_out_is_half_a_minute(redis: Redis) -> None:
    budget = RateBudget(redis, limit=5, search_limit=5)
    await budget.pause(PORTAL, "calls", 29, "SECONDLY")
    assert await count_granted(budget, "calls", "interactive") == 0
    await budget.pause(PORTAL, "calls", 35, "SECONDLY")
    with pytest.raises(TransientCRMError) as raised:
        await count_granted(budget, "calls", "interactive")
    assert 30 < raised.value.retry_after_s <= 35


async def test_call_counted_afterwards_takes_a_slot_for_a_window(redis: Redis) -> None:
    budget = make_budget(redis)
    await budget.count_call(PORTAL)
    assert 60 < await slot_returns_in_s(redis, "calls") <= 100
    for _ in range(6):
        await budget.count_call(PORTAL)
    assert (await budget.state(PORTAL))["calls"].used == 5


async def test_count_call_without_redis_raises_nothing() -> None:
    await make_budget(Redis(port=1)).count_call(PORTAL)


async def test_call_ends_without_error_when_redis_is_gone(redis: Redis) -> None:
    budget = make_budget(redis)
    async with budget.slot(PORTAL, "calls"):
        budget._script = raise_disconnected  # type: ignore[assignment]  # the real one has nowhere to go


async def test_backoff_without_redis_keeps_the_calls_own_error(redis: Redis) -> None:
    budget = make_budget(redis)

    async def limited_call() -> None:
        async with budget.slot(PORTAL, "calls"):
            budget._script = raise_disconnected  # type: ignore[assignment]  # as above
            raise RateLimited(retry_after_s=3)

    with pytest.raises(RateLimited):
        await limited_call()


@pytest.mark.parametrize(("wait_s", "sleep_s"), [(29, 5.0), (2, 2.0)])
async def test_waiter_sleeps_until_the_slot_returns_but_at_most_five_seconds(
    redis: Redis, wait_s: float, sleep_s: float
) -> None:
    sleeps: list[float] = []

    async def record_sleep(seconds: float) -> None:
        sleeps.append(seconds)
        raise asyncio.CancelledError

    budget = make_budget(redis)
    before = time.monotonic()
    await budget.pause(PORTAL, "calls", wait_s, "SECONDLY")
    budget.sleep = record_sleep
    with pytest.raises(asyncio.CancelledError):
        await budget._acquire_slot(PORTAL, "calls", "one", "interactive")
    late_s = time.monotonic() - before if wait_s == sleep_s else 0
    assert sleep_s - late_s <= sleeps[0] <= sleep_s + 0.003


async def test_waiting_for_a_slot_holds_no_thread(redis: Redis) -> None:
    budget = RateBudget(redis, limit=1, search_limit=5, window_s=0.05, concurrency=1)
    async with asyncio.timeout(20):
        for _ in range(3):
            async with budget.slot(PORTAL, "calls"):
                pass


async def test_response_to_a_search_changes_no_limit(redis: Redis) -> None:
    budget = make_budget(redis)
    async with budget.slot(PORTAL, "search") as slot:
        slot.read_headers({"x-hubspot-ratelimit-max": "190"})
    assert (await budget.state(PORTAL))["search"].limit == 5


async def raise_disconnected(*, keys: list[str], args: list[Any]) -> Any:
    """Fail as a script does when Redis is gone."""
    raise Disconnected("gone")
