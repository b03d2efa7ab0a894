"""Time-outs of handlers, checked for all of them together: most handlers end long before a timer of their own is due.

A handler that runs too long is cancelled. One that still runs some seconds later, because it swallows the cancellation,
is given up: its event is resolved without it, and its task does nothing more. Neither happens while one of the
handler's writes is in flight: HubSpot would carry out the write all the same, and the retry would repeat it.
"""

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from spokes.core.telemetry.error_places import traceback_of
from workers.crash_trace import CrashTrace
from workers.lanes.lanes import Lane

if TYPE_CHECKING:
    from collections.abc import Callable

    from spokes.crm.services import WriteRecord
    from workers.process_globals import ProcessGlobals

_CHECK_EVERY_S: Final = 0.25
_MAX_CLEANUP_S: Final = 10.0  # from the cancellation of a handler until it is given up; at most half of its time-out


class RunGivenUp(BaseException):
    """The handler of this task was given up: its event is resolved, and another task continues with its lane."""


class HandlerTimeouts:
    """Cancels handlers that run too long, and gives up those that do not end then.

    Attributes:
        is_closing: the worker shuts down; a cancellation now ends the run and is no error of the handler.
        process_globals: put back whenever a handler ends; None in tests, whose process has other parts.
    """

    def __init__(
        self, timeout_s: float, on_stuck: "Callable[[HandlerTimeout], None]", trace: CrashTrace | None = None
    ) -> None:
        """Apply `timeout_s`; call `on_stuck` once for each handler that is given up; record running ones in `trace`."""
        self.timeout_s = timeout_s
        self.is_closing = False
        self.process_globals: ProcessGlobals | None = None
        self._on_stuck = on_stuck
        self._trace = trace
        self._check_every_s = min(_CHECK_EVERY_S, timeout_s / 4)
        self._running: dict[HandlerTimeout, float] = {}  # with the time at which it is cancelled or given up
        self._timer: asyncio.TimerHandle | None = None

    def running_handlers(self) -> dict[str, set[str]]:
        """Return the names of the handlers that run now, by delivery."""
        handlers: dict[str, set[str]] = {}
        for timeout in self._running:
            if (call := timeout.lane.call) is not None:
                handlers.setdefault(call.item.delivery_run.delivery.id, set()).add(timeout.handler)
        return handlers

    def start(self, timeout: "HandlerTimeout") -> None:
        """Start the clock of a block."""
        loop = timeout.task.get_loop()  # `asyncio.get_running_loop` asks the system for the process' id each time
        self._running[timeout] = loop.time() + timeout.timeout_s
        if timeout.timeout_s < 4 * self._check_every_s:
            self._check_every_s = timeout.timeout_s / 4
        if self._trace is not None and (call := timeout.lane.call) is not None:
            timeout.trace_place = self._trace.begin(
                call.item.delivery_run.delivery.id, call.item.entry.key, timeout.handler
            )
        if self._timer is None:
            self._timer = loop.call_later(self._check_every_s, self._check, loop)

    def stop(self, timeout: "HandlerTimeout") -> None:
        """Stop the clock of a block."""
        self._running.pop(timeout, None)
        process = self.process_globals
        if process is not None and process.current() != process.original and not self.is_closing:
            process.restore(timeout.handler)
        if self._trace is not None:
            self._trace.end(timeout.trace_place)
            timeout.trace_place = 0

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        for timeout in [timeout for timeout, due_at in self._running.items() if now >= due_at]:
            if timeout.writes_in_flight:
                continue
            timeout.task.cancel()
            if not timeout.has_expired:
                timeout.has_expired = True
                self._running[timeout] = now + min(_MAX_CLEANUP_S, timeout.timeout_s / 2)
            else:
                timeout.is_given_up = True
                self.stop(timeout)
                self._on_stuck(timeout)
        if self._running:
            self._timer = loop.call_later(self._check_every_s, self._check, loop)


class HandlerTimeout:
    """The time-out of one handler call, a context manager around it; make it in the task that runs the call.

    Attributes:
        task: runs the call.
        timeout_s: the handler's own, or that of `timeouts`.
        writes_in_flight: the number of the handler's writes that HubSpot has not answered.
        has_expired: the handler was cancelled.
        is_given_up: the handler did not end then.
        trace_place: of its record in the trace, 0 if it has none.
    """

    __slots__ = (
        "_timeouts",
        "handler",
        "has_expired",
        "is_given_up",
        "lane",
        "task",
        "timeout_s",
        "trace_place",
        "writes",
        "writes_in_flight",
    )

    def __init__(
        self,
        timeouts: HandlerTimeouts,
        lane: Lane,
        handler: str,
        writes: "list[WriteRecord]",
        *,
        timeout_s: float | None = None,
    ) -> None:
        """Apply `timeouts` to a call of `handler` in `lane`, whose writes are added to `writes`."""
        self._timeouts = timeouts
        task: asyncio.Task[None] | None = lane.task or asyncio.current_task()
        assert task is not None  # noqa: S101 - a running coroutine has a task
        self.task = task
        self.timeout_s = timeouts.timeout_s if timeout_s is None else timeout_s
        self.lane = lane
        self.handler = handler
        self.writes = writes
        self.writes_in_flight = 0
        self.has_expired = False
        self.is_given_up = False
        self.trace_place = 0

    def __enter__(self) -> Self:
        self._timeouts.start(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the clock.

        Raises:
            TimeoutError: instead of the cancellation that it caused.
            RunGivenUp: nobody waits for the result.
        """
        if self.is_given_up:
            raise RunGivenUp from error
        self._timeouts.stop(self)
        if self.has_expired:
            self.task.uncancel()
            if kind is not None and issubclass(kind, asyncio.CancelledError) and not self._timeouts.is_closing:
                raise TimeoutError().with_traceback(traceback_of(error) if error else None) from error

    def ends_run(self, error: BaseException) -> bool:
        """Return whether an error that leaves the handler ends the run without a resolution of its event.

        The worker shuts down, or its event loop is gone and Python closes the coroutine. Everything else that leaves
        a handler, of whatever class, is its own error.
        """
        kind = type(error)  # an exception of a handler's may have code of its own for isinstance
        if issubclass(kind, RunGivenUp):
            return True
        if issubclass(kind, asyncio.CancelledError):
            return self._timeouts.is_closing
        return issubclass(kind, GeneratorExit) and not self._is_running()

    def _is_running(self) -> bool:
        try:
            return asyncio.current_task() is self.task
        except RuntimeError:  # no event loop runs
            return False


async def absorb_cancellations(timeouts: HandlerTimeouts) -> None:
    """Undo cancellations of the current task that a handler requested, itself or by a timer that it left.

    A request that the handler did not receive would else interrupt our own code.
    """
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()
    try:
        await asyncio.sleep(0)  # Python before 3.13 still throws the request at the next await
    except asyncio.CancelledError:
        if timeouts.is_closing:
            raise
