"""Who may use a thread of the client: no portal and no class of calls takes all of them."""

import asyncio
from collections import deque
from typing import Final, NamedTuple

from spokes.core.priority import Priority

_PORTAL_FACTOR: Final = 3  # a portal may use this many times the threads that are free


class _Waiter(NamedTuple):
    portal_id: int
    priority: Priority
    granted: asyncio.Future[None]


class ConcurrencyLimit:
    """Limits concurrent calls to the client's thread count, so that no call with a slot waits for a thread.

    A portal may use three times as many threads as are free: one alone gets three quarters of them, and if the calls of
    some hang, the others still find a few. Imports may use at most half of them: an interactive call does not wait for
    a thread behind slow calls of imports.
    """

    def __init__(self, concurrency: int) -> None:
        self._free = concurrency
        self._free_for_imports = max(1, concurrency // 2)
        self._used: dict[int, int] = {}  # by portal; none is 0
        self._waiters: deque[_Waiter] = deque()

    async def acquire(self, portal_id: int, priority: Priority) -> None:
        """Wait for a thread, first come first served among those who may use one."""
        if self._may_use(portal_id, priority):
            self._use(portal_id, priority)
            return
        waiter = _Waiter(portal_id, priority, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            await waiter.granted
        except asyncio.CancelledError:
            if waiter.granted.cancelled():
                self._waiters.remove(waiter)
            else:
                self.release(portal_id, priority)
            raise

    def release(self, portal_id: int, priority: Priority) -> None:
        """Release one thread."""
        self._free += 1
        self._free_for_imports += priority == "import"
        self._used[portal_id] -= 1
        if not self._used[portal_id]:
            del self._used[portal_id]
        self._grant()

    def _grant(self) -> None:
        """Give free threads to those who wait, oldest first."""
        for waiter in list(self._waiters):
            if not self._free:
                return
            if not waiter.granted.done() and self._may_use(waiter.portal_id, waiter.priority):
                self._waiters.remove(waiter)
                self._use(waiter.portal_id, waiter.priority)
                waiter.granted.set_result(None)

    def _may_use(self, portal_id: int, priority: Priority) -> bool:
        if not self._free or (priority == "import" and not self._free_for_imports):
            return False
        return self._used.get(portal_id, 0) < _PORTAL_FACTOR * self._free

    def _use(self, portal_id: int, priority: Priority) -> None:
        self._free -= 1
        self._free_for_imports -= priority == "import"
        self._used[portal_id] = self._used.get(portal_id, 0) + 1
