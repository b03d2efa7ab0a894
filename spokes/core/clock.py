"""The wall clock in the unit that events, records and scores use, and a wait that a stop request ends."""

import asyncio
import contextlib
import time

read_ns = time.time_ns  # epoch nanoseconds; the tests of handlers replace it by a clock that they advance


def now_ms() -> int:
    """Return the current time in epoch milliseconds."""
    return read_ns() // 1_000_000


def now_s() -> float:
    """Return the current time in epoch seconds."""
    return read_ns() / 1e9


async def wait_for_stop(stop: asyncio.Event, timeout_s: float) -> None:
    """Wait until `stop` is set, but at most `timeout_s`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await stop.wait()
