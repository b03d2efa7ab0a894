"""HubSpot's time: the moment it stamps on things, and how long it waits. Rule: nobody else in here reads a clock.

Moments are real, since the receiver compares them with its own clock; only HubSpot's waits (retries over 24 h) are
sped up, so that a day of redelivery can be watched in seconds.
"""

import asyncio
import time


class Clock:
    """Real moments and waits divided by `speed`: at 3600 an hour of HubSpot's waiting takes one second."""

    def __init__(self, *, speed: float = 1.0) -> None:
        if speed <= 0:
            raise ValueError("speed must be above 0")
        self.speed = speed

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Seconds that never go back, for windows and latencies."""
        return time.monotonic()

    async def sleep_s(self, hubspot_s: float) -> None:
        """Wait `hubspot_s` seconds of HubSpot's time."""
        await asyncio.sleep(hubspot_s / self.speed)


class ManualClock(Clock):
    """A clock that moves when it is told to, for a test that must not wait."""

    def __init__(self, *, now_ms: int | None = None) -> None:
        super().__init__()
        self._start_ms = super().now_ms() if now_ms is None else now_ms
        self._elapsed_s = 0.0
        self._advanced = asyncio.Event()

    def now_ms(self) -> int:
        """Milliseconds since the epoch, as far as the clock was advanced."""
        return self._start_ms + round(self._elapsed_s * 1000)

    def monotonic_s(self) -> float:
        """Seconds by which the clock was advanced."""
        return self._elapsed_s

    def advance(self, seconds: float) -> None:
        """Move on, and wake whoever waited for that."""
        self._elapsed_s += seconds
        self._advanced.set()
        self._advanced = asyncio.Event()

    async def sleep_s(self, hubspot_s: float) -> None:
        """Wait until the clock was advanced by `hubspot_s` seconds."""
        due_s = self._elapsed_s + hubspot_s
        while self._elapsed_s < due_s:
            await self._advanced.wait()
