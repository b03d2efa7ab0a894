"""Time-outs of handlers. Rule: one look in a while at all that run, for most end long before a timer is due."""

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

_LOOK_S: Final = 0.25


class Deadlines:
    """Cancels what runs too long, and turns that into TimeoutError."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._running: dict[asyncio.Task[object], float] = {}
        self._late: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def limit(self) -> "AbstractContextManager[object]":
        """Hold the block that follows to the time-out."""
        return _Limit(self)

    def enter(self, task: "asyncio.Task[object]") -> None:
        """Start the clock of a task."""
        loop = asyncio.get_running_loop()
        self._running[task] = loop.time() + self.timeout_s
        if self._timer is None:
            self._timer = loop.call_later(min(_LOOK_S, self.timeout_s / 4), self._look, loop)

    def leave(self, task: "asyncio.Task[object]", error: BaseException | None) -> None:
        """Stop the clock.

        Raises:
            TimeoutError: in place of the cancellation that it caused.
        """
        del self._running[task]
        if task in self._late:
            self._late.discard(task)
            if task.uncancel() == 0 and isinstance(error, asyncio.CancelledError):
                raise TimeoutError from error

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        for task, due in self._running.items():
            if now >= due and task not in self._late:
                self._late.add(task)
                task.cancel()
        if self._running:
            self._timer = loop.call_later(min(_LOOK_S, self.timeout_s / 4), self._look, loop)


class _Limit:
    __slots__ = ("_deadlines", "_task")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that runs does so in a task
        self._task = task

    def __enter__(self) -> Self:
        self._deadlines.enter(self._task)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadlines.leave(self._task, error)
