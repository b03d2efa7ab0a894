"""Name the handler that blocks the loop. Rule: it watches from a thread of its own, and costs handlers nothing."""

import asyncio
import sys
import threading
import time
from collections.abc import Coroutine
from types import CodeType, FrameType, TracebackType
from typing import Final, Self

from spokes.audit.alert_episodes import Episodes
from spokes.core.telemetry.alerts import Alert
from spokes.core.telemetry.setup import alert
from spokes.routing import Router

_MOST_S: Final = 1.0
_LOOK_S: Final = 0.25


class Watchdog:
    """Watches one event loop while it is entered."""

    def __init__(self, loop: asyncio.AbstractEventLoop, router: Router, episodes: Episodes) -> None:
        """Watch `loop`; the handlers of `router` are known by their code, and `episodes` sends the alert."""
        self._loop = loop
        self._episodes = episodes
        self._names: dict[CodeType, str] = {
            code: route.name for _, route in router if (code := getattr(route.function, "__code__", None))
        }
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._loop_thread = threading.get_ident()
        self._seen = time.monotonic()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()

    def _watch(self) -> None:
        told = False
        while not self._over.wait(_LOOK_S):
            blocked_s = time.monotonic() - self._seen
            if blocked_s < _MOST_S:
                told = False
                self._ask()
            elif not told:
                told = True  # once for each time it blocks
                fields = {"handler": self._who(), "seconds": round(blocked_s, 1)}
                alert(Alert.LOOP_BLOCKED, level="warning", **fields)
                self._send(self._episodes.send(Alert.LOOP_BLOCKED, **fields))

    def _send(self, sending: Coroutine[None, None, None]) -> None:
        """Have it sent once the loop goes on."""
        try:
            asyncio.run_coroutine_threadsafe(sending, self._loop)
        except RuntimeError:  # the loop has closed
            sending.close()

    def _ask(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._answer)
        except RuntimeError:  # the loop has closed
            self._over.set()

    def _answer(self) -> None:
        self._seen = time.monotonic()

    def _who(self) -> str:
        """Return the name of the handler in the loop's stack, or the place where the loop is if it is in none."""
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - the only way to look at another thread
        place = f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}" if frame else ""
        return self._find(frame) or place

    def _find(self, frame: FrameType | None) -> str:
        while frame is not None:
            if frame.f_code in self._names:
                return self._names[frame.f_code]
            frame = frame.f_back
        return ""
