"""Whether HubSpot still reaches the target URL, by the hours in which it normally sends. Pure."""

from collections.abc import Collection
from typing import Final

_DAY_H: Final = 24
_WEEK_H: Final = 7 * _DAY_H
_WEEKS: Final = 4
_MIN_OBSERVED_H: Final = 2 * _DAY_H


def missed_hours(active: Collection[int], now: int) -> float:
    """Return how many hours with events were to be expected since the last one; 0.0 without two days of experience.

    An hour is expected as often as the same hour of earlier weeks had events, and in the first week as often as the
    same hour of earlier days had. So nights, weekends and rare events are no silence.

    Args:
        active: the hours, as numbers since the epoch, in which events came.
        now: the current hour.
    """
    if not active:
        return 0.0
    first, last = min(active), max(active)
    observed = last - first + 1
    if observed < _MIN_OBSERVED_H:
        return 0.0
    step = _WEEK_H if observed >= _WEEK_H else _DAY_H
    hours = set(active)
    return sum(_expectation(hours, hour, step, first, last) for hour in range(last + 1, now))


def _expectation(active: set[int], hour: int, step: int, first: int, last: int) -> float:
    """Return the share of the comparable earlier hours that had events."""
    earlier = [at for at in range(hour - step, first - 1, -step) if at <= last][:_WEEKS]
    return sum(at in active for at in earlier) / len(earlier) if earlier else 0.0
