"""How long a batch queue pauses between batches that are not full, by how scarce calls are. Pure.

The first calls of a window leave at once. From then on calls are made at the fastest even pace at which none of the
next window waits for a slot: at any time, no more of them than are free now and have come back until then. A queue
pauses `queues` times the time between two such calls, so that its batches fill up meanwhile. Each queue pauses by
itself, so a write can follow the read it depends on at once. Full batches do not wait. If they, or calls outside of
batches, use the limit up, the pause grows.

The daily limit is spread over the rest of the day in the same way, but only when less is left of it than of the day.
"""

from dataclasses import dataclass
from typing import Final

RETURN_PARTS: Final = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of a window, as in rate_budget.lua

_DAY_S: Final = 24 * 3600.0
_BURST_SHARE: Final = 0.08  # of the limit that is used without a pause
_SPARE_CALLS: Final = 1  # that are left free, and one for each queue, which may be a batch ahead of an even pace
_SPARE_SHARE: Final = 0.1  # of the limit, at most, that is left free
_MAX_GAP_SHARE: Final = 0.5  # of a window; handlers wait for their batches and must end in time
_DAY_LAG: Final = 0.1  # if so much less is left than an even use would have left, the pause has its full length


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """The use of one limit, as the last granted slot of one priority found it.

    `used` and `available` calls per window, for this priority; `queues` in use, in all processes. `day_left` calls
    until the day ends in `day_left_s` seconds, of `day_limit`; None if unknown. `at` in seconds on the monotonic clock.
    `returning`: how many of the used calls come back within each of RETURN_PARTS; empty if unknown.
    """

    used: int
    available: int
    queues: int
    at: float
    day_left: int | None = None
    day_limit: int | None = None
    day_left_s: float = 0.0
    returning: tuple[int, ...] = ()


def batch_gap_s(use: BudgetUse | None, *, now: float, window_s: float) -> float:
    """Return the pause of a queue, in seconds, between two batches that are not full.

    Args:
        use: None if no slot was granted yet.
        now: on the clock of `use.at`.
        window_s: of the limit.
    """
    if use is None:
        return 0.0
    age_s = max(now - use.at, 0.0)
    return min(max(_window_gap_s(use, age_s, window_s), _day_gap_s(use, age_s)), _MAX_GAP_SHARE * window_s)


def _window_gap_s(use: BudgetUse, age_s: float, window_s: float) -> float:
    if use.available <= 0:
        return window_s
    used = use.used * max(1.0 - age_s / window_s, 0.0)  # older calls have left the window
    return (
        use.queues * even_interval_s(use, age_s, window_s) * _ramp(used / use.available, _BURST_SHARE, 2 * _BURST_SHARE)
    )


def even_interval_s(use: BudgetUse, age_s: float, window_s: float) -> float:
    """Return the seconds between calls at the fastest even pace at which none of the next window waits for a slot.

    Args:
        use: as of `age_s` seconds ago.
    """
    free = use.available - use.used - min(use.queues + _SPARE_CALLS, _SPARE_SHARE * use.available)
    parts = (*RETURN_PARTS[: len(use.returning)], 1.0)
    returning = (*use.returning, use.used)
    return max((part * window_s - age_s) / max(free + back, 1.0) for part, back in zip(parts, returning, strict=True))


def _day_gap_s(use: BudgetUse, age_s: float) -> float:
    day_left_s = use.day_left_s - age_s
    if use.day_left is None or use.day_limit is None:
        return 0.0
    even_left = use.day_limit * min(day_left_s / _DAY_S, 1.0)
    if even_left <= 0:  # the day has ended
        return 0.0
    lag = 1.0 - use.day_left / even_left
    return use.queues * day_left_s / max(use.day_left, 1) * _ramp(lag, 0.0, _DAY_LAG)


def _ramp(value: float, start: float, end: float) -> float:
    """Return 0 up to `start`, 1 from `end` on, and a straight line between."""
    return min(max((value - start) / (end - start), 0.0), 1.0)
