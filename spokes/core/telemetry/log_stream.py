"""The stream that log lines are written to. A line that cannot be written is dropped.

A handler may close standard error, and a pipe may lose its reader: neither may fail the code that logs.
"""

from contextlib import suppress
from io import TextIOBase
from typing import TextIO


class LogStream(TextIOBase):
    """Writes to another stream, and ignores its errors."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write as much as is possible."""
        with suppress(OSError, ValueError):  # ValueError: it is closed
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, if the stream is open."""
        with suppress(OSError, ValueError):
            self._stream.flush()

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return not self._stream.closed and self._stream.isatty()
