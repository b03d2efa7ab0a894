"""spokes.core.redis.group_commit: who shares a call."""

import asyncio

from spokes.core.redis.group_commit import GroupCommit
from spokes.core.redis.outage import RedisOutage


async def groups(*weights: int, most: int) -> list[list[int]]:
    """Ask for so much at a time; return what went together, the first alone left out: nobody waited beside it."""
    calls: list[list[int]] = []

    async def carry_out(asks: list[int]) -> list[int]:
        calls.append(asks)
        await asyncio.sleep(0)
        return asks

    together: GroupCommit[int, int] = GroupCommit(carry_out, RedisOutage(), max_weight=most, weight=lambda ask: ask)
    first = together.submit(most)
    await asyncio.gather(first, *map(together.submit, weights))
    return calls[1:]


async def test_call_takes_no_further_ask_once_it_is_heavy_enough() -> None:
    assert await groups(60, 60, 60, 60, most=100) == [[60, 60], [60, 60]]


async def test_ask_heavier_than_a_call_goes_all_the_same() -> None:
    assert await groups(500, 1, most=100) == [[500], [1]]


async def test_asks_that_weigh_nothing_share_a_call() -> None:
    assert await groups(*[0] * 300, most=100) == [[0] * 300]
