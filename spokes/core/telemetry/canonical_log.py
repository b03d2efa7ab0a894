"""`CanonicalLog`: canonical log lines as JSON, masked, many in one write.

Writing a line costs more than encoding it, and a busy web process logs thousands a second. A line waits 10 ms at most.
Masking costs more than both, so lines of generated ids and numbers alone are not masked.
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
        self._is_generated = True  # whether all buffered lines are
        self._loop: asyncio.AbstractEventLoop | None = None  # the event loop that is scheduled to flush
        atexit.register(self.flush)

    def write(self, event: str, fields: Mapping[str, object], level: str, *, is_generated: bool) -> None:
        """Write a line within 10 ms, or at once if no event loop is running; see `setup.log_canonical_line`."""
        # The timestamp ends in Z, because a plus sign makes the mask look for phone numbers.
        line = {
            **fields, "event": event, "process": self._process, "level": level, "timestamp": datetime.now(UTC),
        }  # fmt: skip
        self._buffer.append(orjson.dumps(line, option=orjson.OPT_UTC_Z))
        self._is_generated &= is_generated
        if self._loop is not None and self._loop.is_running():
            return
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
        else:
            self._loop.call_later(_MAX_DELAY_S, self.flush)

    def flush(self) -> None:
        """Write the buffered lines."""
        self._loop = None
        if self._buffer:
            lines, self._buffer = b"\n".join(self._buffer).decode(), []
            is_generated, self._is_generated = self._is_generated, True
            self._stream.write(f"{lines if is_generated else self._mask.text(lines)}\n")
