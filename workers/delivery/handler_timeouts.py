"""Time-outs of handlers. Rule: one look in a while at all that run, for most end long before a timer is due.

Nobody is cancelled while HubSpot is changing something for it: the change would happen all the same, and once more.
"""

import asyncio
from types import TracebackType
from typing import Final, Self

_CHECK_EVERY_S: Final = 0.25


class HandlerTimeouts:
    """Cancels what runs too long, and turns that into TimeoutError."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._running: dict[HandlerTimeout, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def new_timeout(self) -> "HandlerTimeout":
        """Hold the block that follows to the time-out."""
        return HandlerTimeout(self)

    def start(self, timeout: "HandlerTimeout") -> None:
        """Start a clock."""
        loop = asyncio.get_running_loop()
        self._running[timeout] = loop.time() + self.timeout_s
        if self._timer is None:
            self._timer = loop.call_later(min(_CHECK_EVERY_S, self.timeout_s / 4), self._check, loop)

    def stop(self, timeout: "HandlerTimeout") -> None:
        """Stop a clock."""
        del self._running[timeout]

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        for limit, due in self._running.items():
            if now >= due:
                limit.expire()
        if self._running:
            self._timer = loop.call_later(min(_CHECK_EVERY_S, self.timeout_s / 4), self._check, loop)


class HandlerTimeout:
    """The clock of one block; `changes` counts what HubSpot is changing for it just now."""

    __slots__ = ("_has_expired", "_task", "_timeouts", "writes_in_flight")

    def __init__(self, timeouts: HandlerTimeouts) -> None:
        self._timeouts = timeouts
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that runs does so in a task
        self._task = task
        self._has_expired = False
        self.writes_in_flight = 0

    def expire(self) -> None:
        """Cancel the block, once, unless a change is on its way."""
        if not self._has_expired and not self.writes_in_flight:
            self._has_expired = True
            self._task.cancel()

    def __enter__(self) -> Self:
        self._timeouts.start(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the clock.

        Raises:
            TimeoutError: in place of the cancellation that it caused.
        """
        self._timeouts.stop(self)
        if self._has_expired and self._task.uncancel() == 0 and isinstance(error, asyncio.CancelledError):
            raise TimeoutError from error
