"""The longest delay before each retry. Pure.

`RETRY_SCHEDULE_S` holds the delays for every failure that may pass. When HubSpot itself fails, retries continue after
the schedule's end: HubSpot sends an event for 24 hours when we fail, and we wait as long when HubSpot does. The hours
count from the first failure: attempts that probe for the end of an outage may be many.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from spokes.core.errors import ObjectMerged, TransientCRMError
from spokes.http.errors import TransientHttpError

if TYPE_CHECKING:
    import random

_FIRST_S: Final = 1.0  # further delays grow from the schedule's last one, but at least from this one
LONGEST_DELAY_S: Final = 3_600.0  # so that an event runs within an hour after HubSpot's calls succeed again
_GROWTH: Final = 2.0


def is_server_failure(error: BaseException) -> bool:
    """Return whether HubSpot, or a host of `tools.http`, failed or refused for now a call that would else succeed."""
    return isinstance(error, TransientCRMError | TransientHttpError) and not isinstance(error, ObjectMerged)


def further_delays_s(schedule_s: Sequence[float], *, failing_s: float, outage_s: float) -> list[float]:
    """Return the longest delays after those of the schedule, for an outage of HubSpot; empty if it lasts too long.

    They grow to an hour; the last one repeats.

    Args:
        schedule_s: longest delays of the schedule.
        failing_s: how long HubSpot has failed the event's calls.
        outage_s: how long an event is retried when HubSpot fails.
    """
    if failing_s >= outage_s:
        return []
    delays_s = [min(max([_FIRST_S, *schedule_s[-1:]]), LONGEST_DELAY_S)]
    while delays_s[-1] < LONGEST_DELAY_S:
        delays_s.append(min(delays_s[-1] * _GROWTH, LONGEST_DELAY_S))
    return delays_s


def random_delay_s(
    attempt: int, schedule_s: Sequence[float], further_s: Sequence[float], rng: "random.Random"
) -> float | None:
    """Return a random delay after an attempt, None after the last one.

    Within the schedule the delay is anything up to the schedule's value (full jitter), so that events which failed
    together do not return together; after it, between half of the further value and all of it.

    Args:
        attempt: number of attempts made, from 1.
        schedule_s: longest delays.
        further_s: those that follow, the last one repeatedly; empty if the schedule's end is final.
        rng: source of the jitter.
    """
    if attempt <= len(schedule_s):
        return rng.uniform(0, schedule_s[attempt - 1])
    if not further_s:
        return None
    longest_s = further_s[min(attempt - len(schedule_s), len(further_s)) - 1]
    return rng.uniform(longest_s / 2, longest_s)
