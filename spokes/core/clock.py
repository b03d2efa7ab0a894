"""The wall clock in the unit that events, records and scores use."""

import time


def now_ms() -> int:
    """Return the current time in epoch milliseconds."""
    return time.time_ns() // 1_000_000
