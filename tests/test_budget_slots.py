"""crm.budget: what stands in Redis for a place, and what is left of one that went wrong."""

import asyncio
import time
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as Disconnected

from core.errors import CRMUnavailable
from crm.budget import Budget
from crm.waits import Kind

PORTAL = 50112233


def budget_of(redis: Redis, *, concurrency: int = 32) -> Budget:
    return Budget(redis, limit=5, search_limit=5, window_s=100.0, call_timeout_s=1_000.0, concurrency=concurrency)


async def comes_back_in_s(redis: Redis, kind: str) -> float:
    """In how many seconds the only place that is taken comes back."""
    ((_, at),) = await redis.zrange(f"spokes:{PORTAL}:budget:{kind}", 0, -1, withscores=True)
    seconds, micro = await redis.time()
    return float(at) / 1e6 - seconds - micro / 1e6


@pytest.mark.parametrize(("kind", "window_s"), [("calls", 100.0), ("search", 1.0)])
async def test_place_is_held_for_a_call_and_a_window_and_then_for_a_window_of_its_kind(
    redis: Redis, kind: Kind, window_s: float
) -> None:
    before = time.monotonic()
    async with budget_of(redis).place(PORTAL, kind):
        held_s = await comes_back_in_s(redis, kind)
    left_s, took_s = await comes_back_in_s(redis, kind), time.monotonic() - before
    assert window_s + 1_000 - took_s <= held_s <= window_s + 1_000
    assert window_s - took_s <= left_s <= window_s


async def test_pause_has_no_reason_unless_one_is_given(redis: Redis) -> None:
    budget = budget_of(redis)
    await budget.pause(PORTAL, "calls", 30)
    await budget.pause(PORTAL, "search", 30, "SECONDLY")
    states = await budget.state(PORTAL)
    assert (states["calls"].why, states["search"].why, states["associations"].why) == ("", "SECONDLY", "")


async def test_place_that_redis_gave_and_could_not_tell_of_is_given_back(redis: Redis) -> None:
    budget = budget_of(redis)
    script = budget._script

    async def lossy(*, keys: list[str], args: list[Any]) -> Any:
        told = await script(keys=keys, args=args)
        if args[0] == "take":
            raise Disconnected("after Redis has done it")
        return told

    budget._script = lossy  # type: ignore[assignment]  # the real one, behind a bad line
    with pytest.raises(CRMUnavailable):
        await budget._take(PORTAL, "calls", "lost")
    assert (await budget.state(PORTAL))["calls"].used == 0


async def test_failure_to_get_a_place_costs_no_thread() -> None:
    budget = budget_of(Redis(port=1), concurrency=1)
    for _ in range(3):
        with pytest.raises(CRMUnavailable):
            async with asyncio.timeout(20), budget.place(PORTAL, "calls"):
                pytest.fail("there is no Redis")
