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

_TOGETHER_S: Final = 0.01


class CanonicalLines:
    """Writes them for one process."""

    def __init__(self, out: TextIO, process: str, mask: Mask) -> None:
        self._out = out
        self._process = process
        self._mask = mask
        self._waiting: list[bytes] = []
        self._loop: asyncio.AbstractEventLoop | None = None  # that will write what waits
        atexit.register(self.flush)

    def write(self, event: str, fields: Mapping[str, object], level: str) -> None:
        """Write a line soon; at once where no event loop runs."""
        # The moment ends in Z: a plus would be looked at as a phone number's.
        ours = {"event": event, "process": self._process, "level": level, "timestamp": datetime.now(UTC)}
        self._waiting.append(orjson.dumps({**fields, **ours}, option=orjson.OPT_UTC_Z))
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
        else:
            if loop is not self._loop:
                self._loop = loop
                loop.call_later(_TOGETHER_S, self.flush)

    def flush(self) -> None:
        """Write what waits."""
        self._loop = None
        if self._waiting:
            lines, self._waiting = b"\n".join(self._waiting).decode(), []
            self._out.write(f"{self._mask.text(lines)}\n")
