"""`CallLimit`: at most a number of calls within any second. The journal's limits are apart from those of the CRM."""

import asyncio
import time
from collections import deque
from typing import Final

READS_PER_S: Final = 100  # of one app, by HubSpot's docs on the journal
_MARGIN: Final = 0.05  # seconds by which calls may arrive closer together than they were sent


class CallLimit:
    """Lets callers wait for their turn, in order."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._sent_at: deque[float] = deque()
        self._turn = asyncio.Lock()

    async def wait(self) -> None:
        """Wait until another call is allowed, and count it."""
        async with self._turn:
            if len(self._sent_at) == self._per_second:
                wait_s = self._sent_at.popleft() + 1.0 + _MARGIN - time.monotonic()
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
            self._sent_at.append(time.monotonic())
