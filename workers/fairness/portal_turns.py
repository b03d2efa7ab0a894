"""Ready lanes of one priority class: the portals take turns, and each portal's lanes run oldest first."""

from collections import deque
from typing import Protocol, TypeVar


class OfPortal(Protocol):
    """Something of one portal, such as a lane."""

    portal_id: int


Lane = TypeVar("Lane", bound=OfPortal)


class PortalTurns(dict[int, deque[Lane]]):
    """Lanes by portal, none without lanes; the portal whose turn it is comes first."""

    def add(self, lane: Lane) -> None:
        """Add a lane behind its portal's others."""
        lanes = self.get(lane.portal_id)
        if lanes is None:
            lanes = self[lane.portal_id] = deque()
        lanes.append(lane)

    def take(self, portal_id: int | None = None) -> Lane:
        """Remove and return the oldest lane of a portal, by default of the one whose turn it is."""
        if portal_id is None:
            portal_id = next(iter(self))
        lanes = self[portal_id]
        lane = lanes.popleft()
        if not lanes:
            del self[portal_id]
        elif len(self) > 1:
            self[portal_id] = self.pop(portal_id)
        return lane

    def remove(self, lane: Lane) -> bool:
        """Remove a lane; return whether it was there."""
        lanes = self.get(lane.portal_id)
        if lanes is None or lane not in lanes:
            return False
        lanes.remove(lane)
        if not lanes:
            del self[lane.portal_id]
        return True
