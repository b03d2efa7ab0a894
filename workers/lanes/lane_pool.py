"""The lanes that are ready, and the tasks that run them: many lanes, few tasks.

A task continues with the next ready lane; more tasks start only when it blocks, then twice as many as before while
lanes stay ready. An event whose handler does not wait for anything costs no task of its own. Within a priority class
the portals take turns. Tasks that run imports do not count for interactive lanes, which would wait behind them for
seconds. When all tasks are used, more are started for portals that use less than their share: the blocked handlers of
one portal stop no other's.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sized
from typing import Final, TypeAlias, cast

import structlog

from spokes.core.priority import PRIORITIES, Priority
from workers.fairness.portal_share import portal_share
from workers.fairness.portal_turns import PortalTurns
from workers.lanes.handler_timeouts import RunGivenUp
from workers.lanes.lanes import Lane

_CANCEL_TIMEOUT_S: Final = 2.0  # at shutdown, for handlers that swallow their cancellation


log = structlog.get_logger()
_RESERVE_SHARE: Final = 10  # each class leaves this part of the tasks to the other
_MOST_STARTED_AT_ONCE: Final = 8  # the handlers of so many lanes run to their first wait in one iteration of the loop
_MOST_EXTRA_TIMES: Final = 4  # times the limit of tasks, for those that wait for an answer
_Turn: TypeAlias = tuple[Priority, int | None]  # a class and a portal; None if any portal will do
_ANY_INTERACTIVE: Final[_Turn] = ("interactive", None)


def next_class(
    ready: Mapping[Priority, Sized], running_imports: int, max_tasks: int, previous: Priority
) -> Priority | None:
    """Return the class whose lane runs next while imports are ready, or None if none may.

    Interactive lanes come first. Imports never use the last tenth of the tasks, so that an interactive lane finds one;
    while they use less than a tenth themselves, the classes take turns, so that interactive work never stops imports.

    Args:
        ready: the ready lanes of each class.
        running_imports: how many tasks run imports.
        max_tasks: the number of tasks.
        previous: the class of the lane that was started last.
    """
    is_interactive_ready = bool(ready["interactive"])
    reserve = max_tasks // _RESERVE_SHARE
    if running_imports >= max_tasks - reserve:
        return "interactive" if is_interactive_ready else None
    if not is_interactive_ready:
        return "import"
    is_turn_of_imports = previous == "interactive" and running_imports < max(1, reserve)
    return "import" if is_turn_of_imports else "interactive"


class ReadyLanes:
    """Acquired lanes without a task, by priority class, in the order in which they run."""

    def __init__(self) -> None:
        self.by_class: Mapping[Priority, PortalTurns[Lane]] = {priority: PortalTurns() for priority in PRIORITIES}
        self._were_put = asyncio.Event()

    def __bool__(self) -> bool:
        """Return whether a lane is ready."""
        return bool(self.by_class["interactive"] or self.by_class["import"])

    def put(self, lanes: Iterable[Lane]) -> None:
        """Append lanes, and wake the task that waits."""
        for lane in lanes:
            self.by_class[lane.priority].add(lane)
        self._were_put.set()

    def promote(self, lane: Lane) -> None:
        """Make a lane interactive: an interactive item has entered it. It may be ready, or run already."""
        lane.priority = "interactive"
        if self.by_class["import"].remove(lane):
            self.put([lane])

    def clear(self) -> None:
        """Forget all ready lanes."""
        for lanes in self.by_class.values():
            lanes.clear()

    async def wait(self) -> None:
        """Wait until lanes were put since the last call; only one task may wait."""
        await self._were_put.wait()
        self._were_put.clear()


class LanePool:
    """As many tasks as lanes are blocked, up to a limit; up to twice for portals that use less than their share.

    Tasks that wait for HubSpot's answer do not count, up to four times the limit: slow answers need more of them.
    """

    def __init__(self, ready: ReadyLanes, *, max_tasks: int, awaited: Callable[[], int] = lambda: 0) -> None:
        """Run up to `max_tasks` tasks beside those that wait for an answer, whose number `awaited` returns."""
        self._ready = ready
        self._own_tasks = max_tasks
        self._awaited = awaited
        self._share = portal_share(max_tasks)
        self._running: dict[int, int] = {}  # tasks that run a portal's lanes, by portal
        self._starter: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._imports: set[asyncio.Task[None]] = set()  # the tasks that run imports
        self._previous: Priority = "import"
        self._starting: set[asyncio.Task[None]] = set()  # tasks that were created, until their first step
        self._started_at_once = 1
        self._check_is_due = False
        self._is_closing = False

    @property
    def extra_tasks(self) -> int:
        """The number of tasks that may run beyond `max_tasks`, because as many wait for an answer."""
        return min(self._awaited(), _MOST_EXTRA_TIMES * self._own_tasks)

    @property
    def _max_tasks(self) -> int:
        return self._own_tasks + self.extra_tasks

    def start(self, work_lane: Callable[[Lane], Awaitable[None]]) -> None:
        """Run every ready lane with `work_lane`, until closed."""
        self._starter = asyncio.get_running_loop().create_task(self._start_tasks(work_lane))
        self._starter.add_done_callback(lambda _: self._restart(work_lane))

    def _restart(self, work_lane: Callable[[Lane], Awaitable[None]]) -> None:
        """Start again after a handler has cancelled the task that starts the others."""
        if not self._is_closing:
            log.warning("lane_pool_restarted", advice="A handler cancelled a task that is not its own.")
            self.start(work_lane)
            self._ready.put(())

    async def close(self) -> None:
        """Cancel all tasks, and wait until they have ended; a handler that swallows its cancellation is left behind."""
        self._is_closing = True
        self._ready.clear()
        tasks = [*self._tasks, *([self._starter] if self._starter else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CANCEL_TIMEOUT_S)

    def give_up(self, task: "asyncio.Task[None]") -> None:
        """Let another task run in place of one whose handler does not end."""
        self._tasks.discard(task)
        self._imports.discard(task)
        self._ready.put(())  # wakes the starter

    async def _start_tasks(self, work_lane: Callable[[Lane], Awaitable[None]]) -> None:
        while True:
            await self._ready.wait()
            self._start_more(work_lane)

    def _start_more(self, work_lane: Callable[[Lane], Awaitable[None]]) -> None:
        if not all(task.done() for task in self._starting):  # done: cancelled before its first step
            return
        for _ in range(self._started_at_once):
            if self._next_turn(len(self._tasks)) is None:
                return
            task = asyncio.get_running_loop().create_task(self._run_lanes(work_lane))
            self._starting.add(task)
            self._tasks.add(task)
            task.add_done_callback(self._task_ended)

    def _task_ended(self, task: "asyncio.Task[None]") -> None:
        self._starting.discard(task)
        self._tasks.discard(task)

    def _next_turn(self, other_tasks: int) -> _Turn | None:
        """Return the turn whose lane a task runs next beside `other_tasks`, or None if none may."""
        ready = self._ready.by_class
        if other_tasks < self._own_tasks or other_tasks < self._max_tasks:
            if not ready["import"]:
                return _ANY_INTERACTIVE if ready["interactive"] else None
            chosen = next_class(ready, len(self._imports), self._max_tasks, self._previous)
            if chosen is not None:
                return chosen, None
        elif ready["interactive"] and other_tasks - len(self._imports) < self._max_tasks:
            return _ANY_INTERACTIVE
        if other_tasks < self._max_tasks + self._own_tasks:
            for priority in PRIORITIES:
                for portal_id in ready[priority]:
                    if self._running.get(portal_id, 0) < self._share:
                        return priority, portal_id
        return None

    async def _run_lanes(self, work_lane: Callable[[Lane], Awaitable[None]]) -> None:
        loop, task = asyncio.get_running_loop(), cast("asyncio.Task[None]", asyncio.current_task())
        self._starting.discard(task)
        while (turn := self._next_turn(len(self._tasks) - 1)) is not None:
            priority, portal_id = turn
            lane = self._ready.by_class[priority].take(portal_id)
            if portal_id is None:
                self._previous = priority
            if not self._check_is_due and self._ready:
                self._check_is_due = True
                loop.call_soon(self._check_ready, work_lane)  # runs once this task blocks or ends
            is_import = priority == "import"
            if is_import:
                self._imports.add(task)
            portal_id = lane.portal_id
            self._running[portal_id] = self._running.get(portal_id, 0) + 1
            lane.task = task
            try:
                await work_lane(lane)
            except RunGivenUp:
                return
            finally:
                if is_import:
                    self._imports.discard(task)
                if self._running[portal_id] == 1:
                    del self._running[portal_id]
                else:
                    self._running[portal_id] -= 1
        # At once, and not when the loop calls back: tasks that end together would each count the others, and all would
        # end as one too many, with lanes ready and nothing to wake another task.
        self._tasks.discard(task)

    def _check_ready(self, work_lane: Callable[[Lane], Awaitable[None]]) -> None:
        self._check_is_due = False
        self._started_at_once = min(2 * self._started_at_once, _MOST_STARTED_AT_ONCE) if self._ready else 1
        self._start_more(work_lane)
