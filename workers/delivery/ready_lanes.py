"""The lanes between acquisition and work: `LaneManager` puts them, `LanePool` takes them."""

import asyncio
from collections import deque

from workers.delivery.lanes import Lane


class ReadyLanes:
    """Acquired lanes without a task, oldest first."""

    def __init__(self) -> None:
        self._lanes: deque[Lane] = deque()
        self._was_put = asyncio.Event()

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def put(self, lane: Lane) -> None:
        """Add a lane."""
        self._lanes.append(lane)
        self._was_put.set()

    def get_nowait(self) -> Lane:
        """Remove and return the oldest lane.

        Raises:
            IndexError: there is none.
        """
        return self._lanes.popleft()

    def clear(self) -> None:
        """Remove all lanes."""
        self._lanes.clear()

    async def wait(self) -> None:
        """Wait until a lane was put since the last call; only one task may wait."""
        await self._was_put.wait()
        self._was_put.clear()
