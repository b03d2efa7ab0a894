"""Canonical lines as JSON, many in one write. Rule: a line waits a hundredth of a second at most, and is masked.

Writing a line costs more than making it, and a busy door makes thousands a second.
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
    """Writes them for one process."""

    def __init__(self, stream: TextIO, process: str, mask: Mask) -> None:
        self._stream = stream
        self._process = process
        self._mask = mask
        self._buffer: list[bytes] = []
        self._loop: asyncio.AbstractEventLoop | None = None  # that will write what waits
        atexit.register(self.flush)

    def write(self, event: str, fields: Mapping[str, object], level: str) -> None:
        """Write a line soon; at once where no event loop runs."""
        # The moment ends in Z: a plus would be looked at as a phone number's.
        ours = {"event": event, "process": self._process, "level": level, "timestamp": datetime.now(UTC)}
        self._buffer.append(orjson.dumps({**fields, **ours}, option=orjson.OPT_UTC_Z))
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
        else:
            if loop is not self._loop:
                self._loop = loop
                loop.call_later(_MAX_DELAY_S, self.flush)

    def flush(self) -> None:
        """Write what waits."""
        self._loop = None
        if self._buffer:
            lines, self._buffer = b"\n".join(self._buffer).decode(), []
            self._stream.write(f"{self._mask.text(lines)}\n")
