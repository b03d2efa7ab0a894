"""Ready lanes of one priority class: the portals take turns, and each portal's lanes run oldest first."""

from collections import deque
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class OfPortal(Protocol):
    """Something of one portal, such as a lane."""

    portal_id: int


Lane = TypeVar("Lane", bound=OfPortal)


class PortalTurns(Generic[Lane]):
    """Lanes by portal. Falsy without any."""

    def __init__(self) -> None:
        self._by_portal: dict[int, deque[Lane]] = {}  # none is empty; the portal whose turn it is comes first

    def __bool__(self) -> bool:
        """Return whether there is a lane."""
        return bool(self._by_portal)

    def __len__(self) -> int:
        """Return the number of lanes."""
        return sum(map(len, self._by_portal.values()))

    def __iter__(self) -> Iterator[Lane]:
        """Iterate over the lanes, by portal."""
        return (lane for lanes in self._by_portal.values() for lane in lanes)

    @property
    def portals(self) -> Iterator[int]:
        """The portals with lanes, in the order of their turns."""
        return iter(self._by_portal)

    def append(self, lane: Lane) -> None:
        """Add a lane behind its portal's others."""
        lanes = self._by_portal.get(lane.portal_id)
        if lanes is None:
            lanes = self._by_portal[lane.portal_id] = deque()
        lanes.append(lane)

    def pop(self, portal_id: int | None = None) -> Lane:
        """Remove and return the oldest lane of a portal, by default of the one whose turn it is."""
        if portal_id is None:
            portal_id = next(iter(self._by_portal))
        lanes = self._by_portal[portal_id]
        lane = lanes.popleft()
        if not lanes:
            del self._by_portal[portal_id]
        elif len(self._by_portal) > 1:
            self._by_portal[portal_id] = self._by_portal.pop(portal_id)
        return lane

    def remove(self, lane: Lane) -> bool:
        """Remove a lane; return whether it was there."""
        lanes = self._by_portal.get(lane.portal_id)
        if lanes is None or lane not in lanes:
            return False
        lanes.remove(lane)
        if not lanes:
            del self._by_portal[lane.portal_id]
        return True

    def clear(self) -> None:
        """Remove all lanes."""
        self._by_portal.clear()
