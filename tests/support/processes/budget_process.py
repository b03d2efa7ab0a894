"""A process that calls as fast as the budget allows, and prints when each call arrived, by time.monotonic().

Usage: python tests/support/processes/budget_process.py <redis url> <limit> <window s> <latency s> <lasts s>
It prints `ready`, then reads its start time from stdin, in seconds of time.monotonic(), which all processes share.
"""

import asyncio
import random
import sys
import time

from redis.asyncio import Redis

from spokes.crm.transport.rate_budget import RateBudget


async def main() -> None:
    """Call from more coroutines than the limit can serve at a time."""
    url, limit, *seconds = sys.argv[1:]
    window_s, latency_s, lasts_s = map(float, seconds)
    redis = Redis.from_url(url)
    budget = RateBudget(redis, limit=int(limit), search_limit=5, window_s=window_s, call_timeout_s=2.0)
    arrivals: list[float] = []
    await budget.state(1)  # opens the connection before the start
    print("ready", flush=True)  # noqa: T201 - the parent reads it
    start = float(sys.stdin.readline())
    end = start + lasts_s

    async def call_on() -> None:
        while time.monotonic() < end:
            async with budget.slot(1, "calls"):
                on_the_way_s = random.uniform(0, 0.1) * latency_s
                await asyncio.sleep(on_the_way_s)
                arrivals.append(time.monotonic())
                await asyncio.sleep(0.9 * latency_s)

    await asyncio.sleep(start - time.monotonic())
    await asyncio.gather(*(call_on() for _ in range(40)))
    await redis.aclose()
    print("\n".join(map(repr, arrivals)))  # noqa: T201 - as above


asyncio.run(main())
