"""How much more a worker may claim, by priority class: imports take nothing from interactive work. Pure.

Each class may hold as much as keeps the worker busy; imports only what interactive work leaves of that, but always a
quarter. So a class that works alone wastes nothing, imports that were claimed before keep no interactive delivery
waiting, and an interactive load that fills its room does not stop imports.
"""

from collections.abc import Mapping
from typing import NamedTuple

from spokes.core.priority import Priority

_RESERVE_SHARE = 4  # imports may always hold this part of what one class may hold


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
    interactive = limit - held["interactive"]
    imports = max(min(limit, interactive), 1, limit // _RESERVE_SHARE) - held["import"]
    by_class: Mapping[Priority, int] = {"interactive": interactive, "import": imports}
    return Room(sum(max(0, room) for room in by_class.values()), by_class, limit)
