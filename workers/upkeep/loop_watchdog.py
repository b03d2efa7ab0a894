"""Name the handler that blocks the event loop, from a thread of its own, so that handlers pay nothing for it."""

import asyncio
import sys
import threading
import time
from collections.abc import Coroutine
from types import CodeType, FrameType, TracebackType
from typing import Final, Self

from spokes.audit.alert_episodes import AlertEpisodes
from spokes.core.telemetry.alerts import Alert
from spokes.core.telemetry.setup import log_alert
from spokes.routing import Router

_MAX_BLOCKED_S: Final = 1.0
_CHECK_EVERY_S: Final = 0.25


class Watchdog:
    """Watches one event loop while it is entered."""

    def __init__(self, loop: asyncio.AbstractEventLoop, router: Router, episodes: AlertEpisodes) -> None:
        """Watch `loop`, recognise the handlers of `router` by their code, and alert through `episodes`."""
        self._loop = loop
        self._episodes = episodes
        self._names: dict[CodeType, str] = {
            code: route.name for _, route in router if (code := getattr(route.function, "__code__", None))
        }
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._loop_thread = threading.get_ident()
        self._last_pong = time.monotonic()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()

    def _watch(self) -> None:
        has_alerted = False  # since the loop was last free
        while not self._stopped.wait(_CHECK_EVERY_S):
            blocked_s = time.monotonic() - self._last_pong
            if blocked_s < _MAX_BLOCKED_S:
                has_alerted = False
                self._ping()
            elif not has_alerted:
                has_alerted = True
                fields = {"handler": self._blocking_handler(), "seconds": round(blocked_s, 1)}
                log_alert(Alert.LOOP_BLOCKED, level="warning", **fields)
                self._run_in_loop(self._episodes.enqueue_message(Alert.LOOP_BLOCKED, **fields))

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
        self._last_pong = time.monotonic()

    def _blocking_handler(self) -> str:
        """Return the name of the handler in the loop's stack, or the current file and line if there is none."""
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - the only way to inspect another thread
        line = f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}" if frame else ""
        return self._handler_in_stack(frame) or line

    def _handler_in_stack(self, frame: FrameType | None) -> str:
        while frame is not None:
            if frame.f_code in self._names:
                return self._names[frame.f_code]
            frame = frame.f_back
        return ""
