"""The lanes between acquisition and work: `LaneManager` puts them, `LanePool` takes them."""

import asyncio
from collections import deque
from collections.abc import Iterable

from workers.delivery.lanes import Lane


class ReadyLanes(deque[Lane]):
    """Acquired lanes without a task, oldest first."""

    def __init__(self) -> None:
        super().__init__()
        self._were_put = asyncio.Event()

    def put(self, lanes: Iterable[Lane]) -> None:
        """Append lanes, and wake the task that waits."""
        self.extend(lanes)
        self._were_put.set()

    async def wait(self) -> None:
        """Wait until lanes were put since the last call; only one task may wait."""
        await self._were_put.wait()
        self._were_put.clear()
