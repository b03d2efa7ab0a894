"""The wall clock in the unit that events, records and scores use, and a wait that a stop request ends."""

import asyncio
import contextlib
import time


def now_ms() -> int:
    """Return the current time in epoch milliseconds."""
    return time.time_ns() // 1_000_000


async def wait_for_stop(stop: asyncio.Event, timeout_s: float) -> None:
    """Wait until `stop` is set, but at most `timeout_s`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await stop.wait()
