"""The lanes that are ready, and the tasks that run them: many lanes, few tasks.

A task continues with the next ready lane; another task starts only when it blocks. An event whose handler does not
wait for anything costs no task of its own.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from workers.delivery.handler_timeouts import RunGivenUp
from workers.delivery.lanes import Lane

_CANCEL_TIMEOUT_S: Final = 2.0  # at shutdown, for handlers that swallow their cancellation


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


class LanePool:
    """As many tasks as lanes are blocked, up to a limit."""

    def __init__(self, ready: ReadyLanes, *, max_tasks: int) -> None:
        self._ready = ready
        self._max_tasks = max_tasks
        self._starter: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_starting = False
        self._check_is_due = False

    def start(self, work_lane: Callable[[Lane], Awaitable[None]]) -> None:
        """Run every ready lane with `work_lane`, until closed."""
        self._starter = asyncio.get_running_loop().create_task(self._start_tasks(work_lane))

    async def close(self) -> None:
        """Cancel all tasks, and wait until they have ended; a handler that swallows its cancellation is left behind."""
        self._ready.clear()
        tasks = [*self._tasks, *([self._starter] if self._starter else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CANCEL_TIMEOUT_S)

    def give_up(self, task: "asyncio.Task[None]") -> None:
        """Let another task run in place of one whose handler does not end."""
        self._tasks.discard(task)
        self._ready.put(())  # wakes the starter

    async def _start_tasks(self, work_lane: Callable[[Lane], Awaitable[None]]) -> None:
        while True:
            await self._ready.wait()
            self._start_task(work_lane)

    def _start_task(self, work_lane: Callable[[Lane], Awaitable[None]]) -> None:
        if self._ready and not self._is_starting and len(self._tasks) < self._max_tasks:
            self._is_starting = True
            task = asyncio.get_running_loop().create_task(self._run_lanes(work_lane))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run_lanes(self, work_lane: Callable[[Lane], Awaitable[None]]) -> None:
        self._is_starting = False
        loop = asyncio.get_running_loop()
        while self._ready:
            lane = self._ready.popleft()
            if self._ready and not self._check_is_due:
                self._check_is_due = True
                loop.call_soon(self._check_ready, work_lane)  # runs once this task blocks or ends
            try:
                await work_lane(lane)
            except RunGivenUp:
                return

    def _check_ready(self, work_lane: Callable[[Lane], Awaitable[None]]) -> None:
        self._check_is_due = False
        self._start_task(work_lane)
