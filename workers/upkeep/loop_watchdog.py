"""Name the handler that blocks the event loop, from a thread of its own, so that handlers pay nothing for it.

A loop that stays blocked ends its process: no other way ends the handler. Until then its leases are renewed. Code
in C that keeps Python's interpreter lock stops this thread too; then a timer that needs no lock ends the process.
"""

import asyncio
import faulthandler
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import CodeType, FrameType, TracebackType
from typing import IO, Any, Final, Self, TypeAlias

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core.telemetry.alerts import Alert
from spokes.core.telemetry.setup import log_alert
from spokes.routing import Router

_MAX_BLOCKED_S: Final = 1.0
_CHECK_EVERY_S: Final = 0.25
_ARM_EVERY_S: Final = 5.0
_TIMER_MARGIN_S: Final = 30.0  # the timer also fires in a process that was stopped for so long
# With the frame in which the loop's thread is, and the handler and seconds for an alert.
EndProcess: TypeAlias = Callable[[FrameType | None, dict[str, Any]], None]


class Watchdog:
    """Watches one event loop while it is entered."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        router: Router,
        episodes: AlertEpisodes,
        end_process: EndProcess,
        *,
        max_blocked_s: float,
        stacks: IO[bytes] | None = None,
    ) -> None:
        """Watch a loop.

        Args:
            loop: of the thread that makes this object.
            router: its handlers are recognised by their code.
            episodes: alerts, once the loop is free again.
            end_process: called in the watchdog's thread once the loop is blocked for `max_blocked_s`.
            max_blocked_s: seconds; time in which the whole process was stopped does not count.
            stacks: the file that gets the stacks if the timer ends the process; None for standard error.
        """
        self._loop = loop
        self._end_process = end_process
        self._max_blocked_s = max_blocked_s
        self._stacks = stacks or sys.__stderr__
        self._episodes = episodes
        self._names: dict[CodeType, str] = {
            code: route.name for _, route in router if (code := getattr(route.function, "__code__", None))
        }
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._loop_thread = threading.get_ident()
        self._blocked_s = 0.0

    def __enter__(self) -> Self:
        self._arm_timer()  # the first handler may keep the thread from running at all
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()

    def _is_blocked(self) -> bool:
        """Return whether the loop is blocked now."""
        return self._blocked_s >= _MAX_BLOCKED_S

    def _watch(self) -> None:
        has_alerted = False  # since the loop was last free
        checked_at = time.monotonic()
        armed_at = 0.0
        while not self._stopped.wait(_CHECK_EVERY_S):
            now = time.monotonic()
            self._blocked_s += min(now - checked_at, 2 * _CHECK_EVERY_S)
            checked_at = now
            if not self._is_blocked():
                has_alerted = False
                self._ping()
                if now - armed_at > _ARM_EVERY_S:
                    armed_at = now
                    self._arm_timer()
                continue
            frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - the only way to inspect another thread
            fields = {"handler": self._blocking_handler(frame), "seconds": round(self._blocked_s, 1)}
            if not has_alerted:
                has_alerted = True
                log_alert(Alert.LOOP_BLOCKED, level="warning", **fields)
                self._run_in_loop(self._episodes.enqueue_message(Alert.LOOP_BLOCKED, **fields))
            if self._blocked_s >= self._max_blocked_s:
                self._end_process(frame, fields)
                break
        faulthandler.cancel_dump_traceback_later()

    def _arm_timer(self) -> None:
        """Have the process end, with the stacks of its threads written, unless this is called again in time."""
        if self._stacks is not None:
            with suppress(ValueError, OSError):  # the file is closed
                limit_s = self._max_blocked_s + _TIMER_MARGIN_S
                faulthandler.dump_traceback_later(limit_s, exit=True, file=self._stacks)

    def _run_in_loop(self, coroutine: Coroutine[None, None, None]) -> None:
        """Run a coroutine once the loop is free again."""
        try:
            asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:  # the loop is closed
            coroutine.close()

    def _ping(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._pong)
        except RuntimeError:  # the loop is closed
            self._stopped.set()

    def _pong(self) -> None:
        self._blocked_s = 0.0

    def _blocking_handler(self, frame: FrameType | None) -> str:
        """Return the name of the handler in a stack, or the current file and line if there is none."""
        line = f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}" if frame else ""
        return self._handler_in_stack(frame) or line

    def _handler_in_stack(self, frame: FrameType | None) -> str:
        while frame is not None:
            if frame.f_code in self._names:
                return self._names[frame.f_code]
            frame = frame.f_back
        return ""
