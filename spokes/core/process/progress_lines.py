"""Progress of long work as plain lines on standard error, for pipes and log files."""

import sys
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self

_FIRST_PAUSE_S: Final = 5.0
_LONGEST_PAUSE_S: Final = 60.0


def pauses(first_s: float = _FIRST_PAUSE_S) -> Iterator[float]:
    """Yield the seconds before each line: twice as many each time, a minute at most."""
    while True:
        yield min(first_s, _LONGEST_PAUSE_S)
        first_s = min(first_s * 2, _LONGEST_PAUSE_S)


def progress_line(label: str, done: int, total: int | None, seconds: float) -> str:
    """Return one line; `done` and `total` are steps."""
    if total:
        return f"{label}: {done:,} of {total:,} ({100 * done // total} %) after {seconds:.0f} s"
    return f"{label}: {f'{done:,}' if done else 'still working'} after {seconds:.0f} s"


class ProgressLines:
    """Writes a line after 5, 15, 35 ... seconds, from a thread of its own: the work may not report any step."""

    def __init__(self, label: str, total: int | None = None, *, first_pause_s: float = _FIRST_PAUSE_S) -> None:
        self._label = label
        self._total = total
        self._done = 0
        self._first_pause_s = first_pause_s
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._write, name="progress lines", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def update(self, done: int, total: int | None = None) -> None:
        """Set the steps done, and the total if it is known only now."""
        self._done = done
        self._total = self._total if total is None else total

    def _write(self) -> None:
        started = time.monotonic()
        for pause_s in pauses(self._first_pause_s):
            if self._is_over.wait(pause_s):
                return
            line = progress_line(self._label, self._done, self._total, time.monotonic() - started)
            try:
                sys.stderr.write(line + "\n")
                sys.stderr.flush()
            except (OSError, ValueError):  # the reader closed the pipe
                return
