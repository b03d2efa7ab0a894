"""Time-outs of handlers. Rule: one look in a while at all that run, for most end long before a timer is due.

Nobody is cancelled while HubSpot is changing something for it: the change would happen all the same, and once more.
"""

import asyncio
from types import TracebackType
from typing import Final, Self

_LOOK_S: Final = 0.25


class Deadlines:
    """Cancels what runs too long, and turns that into TimeoutError."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._running: dict[Limit, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def limit(self) -> "Limit":
        """Hold the block that follows to the time-out."""
        return Limit(self)

    def enter(self, limit: "Limit") -> None:
        """Start a clock."""
        loop = asyncio.get_running_loop()
        self._running[limit] = loop.time() + self.timeout_s
        if self._timer is None:
            self._timer = loop.call_later(min(_LOOK_S, self.timeout_s / 4), self._look, loop)

    def leave(self, limit: "Limit") -> None:
        """Stop a clock."""
        del self._running[limit]

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        for limit, due in self._running.items():
            if now >= due:
                limit.over()
        if self._running:
            self._timer = loop.call_later(min(_LOOK_S, self.timeout_s / 4), self._look, loop)


class Limit:
    """The clock of one block; `changes` counts what HubSpot is changing for it just now."""

    __slots__ = ("_deadlines", "_is_late", "_task", "changes")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that runs does so in a task
        self._task = task
        self._is_late = False
        self.changes = 0

    def over(self) -> None:
        """Cancel the block, once, unless a change is on its way."""
        if not self._is_late and not self.changes:
            self._is_late = True
            self._task.cancel()

    def __enter__(self) -> Self:
        self._deadlines.enter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the clock.

        Raises:
            TimeoutError: in place of the cancellation that it caused.
        """
        self._deadlines.leave(self)
        if self._is_late and self._task.uncancel() == 0 and isinstance(error, asyncio.CancelledError):
            raise TimeoutError from error
