"""How long a batch queue pauses between batches that are not full, by how scarce calls are. Pure.

The first calls of a window leave at once. From then on the rest of the limit is spread evenly over the window: a queue
pauses `queues` times the time between two calls that the limit sustains, so that its batches fill up meanwhile. Each
queue pauses by itself, so a write can follow the read it depends on at once. Full batches do not wait. If they, or
calls outside of batches, use the limit up, the pause grows.

The daily limit is spread over the rest of the day in the same way, but only when less is left of it than of the day.
"""

from dataclasses import dataclass
from typing import Final

_DAY_S: Final = 24 * 3600.0
_BURST_SHARE: Final = 0.08  # of the limit that is used without a pause
_EVEN: Final = 1.12  # pause, in times between two calls, that spreads the rest of the limit over the window
_SCARCE_SHARE: Final = 0.94  # of the limit, from which on others use it too
_SCARCE: Final = 2.0  # how much longer the pause is when all is used
_MAX_GAP_SHARE: Final = 0.5  # of a window; handlers wait for their batches and must end in time
_DAY_LAG: Final = 0.1  # if so much less is left than an even use would have left, the pause has its full length


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """The use of one limit, as the last granted slot of one priority found it.

    `used` and `available` calls per window, for this priority; `queues` that sent a batch within the last fifth of a
    window, in all processes. `day_left` calls until the day ends in `day_left_s` seconds, of `day_limit`; None if
    unknown. `at` on the monotonic clock, in seconds.
    """

    used: int
    available: int
    queues: int
    at: float
    day_left: int | None = None
    day_limit: int | None = None
    day_left_s: float = 0.0


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
    used_share = use.used / use.available * max(1.0 - age_s / window_s, 0.0)  # older calls have left the window
    factor = _EVEN * _ramp(used_share, _BURST_SHARE, 2 * _BURST_SHARE) + _SCARCE * _ramp(used_share, _SCARCE_SHARE, 1.0)
    return use.queues * window_s / use.available * factor


def _day_gap_s(use: BudgetUse, age_s: float) -> float:
    day_left_s = use.day_left_s - age_s
    if use.day_left is None or not use.day_limit or day_left_s <= 0:
        return 0.0
    even_left = use.day_limit * min(day_left_s / _DAY_S, 1.0)
    if even_left <= 0:  # of a few remaining nanoseconds
        return 0.0
    lag = 1.0 - use.day_left / even_left
    return use.queues * day_left_s / max(use.day_left, 1) * _ramp(lag, 0.0, _DAY_LAG)


def _ramp(value: float, start: float, end: float) -> float:
    """Return 0 up to `start`, 1 from `end` on, and a straight line between."""
    return min(max((value - start) / (end - start), 0.0), 1.0)
