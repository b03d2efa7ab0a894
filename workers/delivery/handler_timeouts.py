"""Time-outs of handlers, checked for all of them together: most handlers end long before a timer of their own is due.

A handler is not cancelled while one of its writes is in flight: HubSpot would carry out the write all the same, and the
retry would repeat it.
"""

import asyncio
from types import TracebackType
from typing import Final, Self

_CHECK_EVERY_S: Final = 0.25


class HandlerTimeouts:
    """Cancels handlers that run too long; their cancellation becomes a TimeoutError."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._running: dict[HandlerTimeout, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def new_timeout(self) -> "HandlerTimeout":
        """Return a context manager that applies the time-out to its block; call it in the task that runs the block."""
        return HandlerTimeout(self)

    def start(self, timeout: "HandlerTimeout") -> None:
        """Start the clock of a block."""
        loop = asyncio.get_running_loop()
        self._running[timeout] = loop.time() + self.timeout_s
        if self._timer is None:
            self._timer = loop.call_later(min(_CHECK_EVERY_S, self.timeout_s / 4), self._check, loop)

    def stop(self, timeout: "HandlerTimeout") -> None:
        """Stop the clock of a block."""
        del self._running[timeout]

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        for timeout, expires_at in self._running.items():
            if now >= expires_at:
                timeout.expire()
        if self._running:
            self._timer = loop.call_later(min(_CHECK_EVERY_S, self.timeout_s / 4), self._check, loop)


class HandlerTimeout:
    """The time-out of one handler call; `writes_in_flight` counts its writes that HubSpot has not answered."""

    __slots__ = ("_has_expired", "_task", "_timeouts", "writes_in_flight")

    def __init__(self, timeouts: HandlerTimeouts) -> None:
        self._timeouts = timeouts
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a running coroutine has a task
        self._task = task
        self._has_expired = False
        self.writes_in_flight = 0

    def expire(self) -> None:
        """Cancel the block, once, unless a write is in flight."""
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
            TimeoutError: instead of the cancellation that it caused.
        """
        self._timeouts.stop(self)
        if self._has_expired and self._task.uncancel() == 0 and isinstance(error, asyncio.CancelledError):
            raise TimeoutError from error
