"""`CanonicalLog`: canonical log lines as JSON, masked, many in one write.

Writing a line costs more than encoding it, and a busy web process logs thousands a second. A line waits 10 ms at most.
"""

import asyncio
import atexit
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, TextIO

import orjson

from spokes.core.masking import Mask

_MAX_DELAY_S: Final = 0.01


class CanonicalLog:
    """Buffers and writes the canonical lines of one process."""

    def __init__(self, stream: TextIO, process: str, mask: Mask) -> None:
        self._stream = stream
        self._process = process
        self._mask = mask
        self._buffer: list[bytes] = []
        self._loop: asyncio.AbstractEventLoop | None = None  # the event loop that is scheduled to flush
        atexit.register(self.flush)

    def write(self, event: str, fields: Mapping[str, object], level: str) -> None:
        """Write a line within 10 ms, or at once if no event loop is running."""
        # The timestamp ends in Z, because a plus sign makes the mask look for phone numbers.
        own_fields = {"event": event, "process": self._process, "level": level, "timestamp": datetime.now(UTC)}
        self._buffer.append(orjson.dumps({**fields, **own_fields}, option=orjson.OPT_UTC_Z))
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
        else:
            if loop is not self._loop:
                self._loop = loop
                loop.call_later(_MAX_DELAY_S, self.flush)

    def flush(self) -> None:
        """Write the buffered lines."""
        self._loop = None
        if self._buffer:
            lines, self._buffer = b"\n".join(self._buffer).decode(), []
            self._stream.write(f"{self._mask.text(lines)}\n")
