"""Run lanes, many at a time. Rule: who need not wait makes no task.

A runner goes on from lane to lane; another one starts only when it has had to wait for something.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from workers.delivery.lanes import Lane


class Runners:
    """As many as there are lanes that wait for something, up to a bound."""

    def __init__(self, work: Callable[[Lane], Awaitable[None]], *, most: int) -> None:
        self._work = work
        self._most = most
        self._ready: deque[Lane] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting = False
        self._looking = False  # whether a look at what is ready is due, once the runner at work waits or ends

    def run(self, lane: Lane) -> None:
        """Have a lane run as soon as a runner is free."""
        self._ready.append(lane)
        self._start_one()

    async def close(self) -> None:
        """Stop all, and wait until they have."""
        self._ready.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start_one(self) -> None:
        if self._ready and not self._starting and len(self._tasks) < self._most:
            self._starting = True
            task = asyncio.get_running_loop().create_task(self._go())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _go(self) -> None:
        self._starting = False
        loop = asyncio.get_running_loop()
        while self._ready:
            lane = self._ready.popleft()
            if self._ready and not self._looking:
                self._looking = True
                loop.call_soon(self._look)  # it comes to nothing if no lane waits
            await self._work(lane)

    def _look(self) -> None:
        self._looking = False
        self._start_one()
