"""Whether a portal from which events usually come has become silent. Pure.

The comparison is with the same hours of the days before, so that nights and weekends are no silence. A portal is
watched from its second week on.
"""

from collections.abc import Mapping, Sequence
from typing import Final

WINDOW_HOURS: Final = 3
COMPARED_DAYS: Final = 7  # the last of them is the same day of the week
_LEAST_DAYS: Final = 3
_USUAL_EVENTS: Final = 20  # after fewer, no event at all may be chance


def is_silent(now: int, days_before: Sequence[int]) -> bool:
    """Return whether no delivery at all is unusual.

    Args:
        now: deliveries in the last WINDOW_HOURS hours.
        days_before: deliveries in the same hours of each of COMPARED_DAYS days, yesterday first.
    """
    busy_days = sum(count >= _USUAL_EVENTS for count in days_before)
    is_busy_on_this_weekday = len(days_before) >= COMPARED_DAYS and days_before[COMPARED_DAYS - 1] >= _USUAL_EVENTS
    return now == 0 and is_busy_on_this_weekday and busy_days >= _LEAST_DAYS


def silent_portals(now: Mapping[int, int], days_before: Sequence[Mapping[int, int]]) -> list[int]:
    """Return the portals that have become silent; each mapping is from a portal to its deliveries."""
    portals = {portal_id for day in days_before for portal_id in day}
    return sorted(
        portal_id
        for portal_id in portals
        if is_silent(now.get(portal_id, 0), [day.get(portal_id, 0) for day in days_before])
    )
