"""How much more a worker may claim, by priority class: neither class can fill the whole worker. Pure.

Each class may hold as much as keeps the worker busy, and both together hold a quarter more. So a class that fills its
own room leaves a reserve to the other, and a class that works alone wastes nothing.
"""

from collections.abc import Mapping
from typing import NamedTuple

from spokes.core.priority import PRIORITIES, Priority

_RESERVE_SHARE = 4  # the reserve is this part of what one class may hold


class Room(NamedTuple):
    """How many more jobs or events may be claimed: of both classes, and of each one, which may hold `limit`."""

    total: int
    by_class: Mapping[Priority, int]
    limit: int

    def of(self, priority: Priority) -> int:
        """Return how many more of one class may be claimed."""
        return max(0, min(self.total, self.by_class[priority]))


def room_left(limit: int, held: Mapping[Priority, int]) -> Room:
    """Return what may be claimed.

    Args:
        limit: what one class may hold.
        held: what this worker holds, by class.
    """
    total = limit + max(1, limit // _RESERVE_SHARE) - sum(held.values())
    by_class = {priority: limit - held.get(priority, 0) for priority in PRIORITIES}
    return Room(total, by_class, limit)
