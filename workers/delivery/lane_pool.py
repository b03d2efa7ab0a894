"""Run lanes, many at a time. Rule: who need not wait makes no task.

A runner goes on from lane to lane; another one starts only when it has had to wait for something.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from workers.delivery.lanes import Lane


class LanePool:
    """As many as there are lanes that wait for something, up to a bound."""

    def __init__(self, work_lane: Callable[[Lane], Awaitable[None]], *, max_tasks: int) -> None:
        self._work_lane = work_lane
        self._max_tasks = max_tasks
        self._ready: deque[Lane] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_starting = False
        self._check_is_due = False  # whether a look at what is ready is due, once the runner at work waits or ends

    def start(self, lane: Lane) -> None:
        """Have a lane run as soon as a runner is free."""
        self._ready.append(lane)
        self._start_task()

    async def close(self) -> None:
        """Stop all, and wait until they have."""
        self._ready.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start_task(self) -> None:
        if self._ready and not self._is_starting and len(self._tasks) < self._max_tasks:
            self._is_starting = True
            task = asyncio.get_running_loop().create_task(self._run_lanes())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run_lanes(self) -> None:
        self._is_starting = False
        loop = asyncio.get_running_loop()
        while self._ready:
            lane = self._ready.popleft()
            if self._ready and not self._check_is_due:
                self._check_is_due = True
                loop.call_soon(self._check_ready)  # it comes to nothing if no lane waits
            await self._work_lane(lane)

    def _check_ready(self) -> None:
        self._check_is_due = False
        self._start_task()
