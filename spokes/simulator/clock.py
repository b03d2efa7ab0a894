"""HubSpot's clock: the timestamps it sends and the delays it waits, real or manual.

Timestamps are real, because the receiver compares them with its own clock. Only HubSpot's delays (retries over 24 h)
are shortened, so that a day of redelivery takes seconds.
"""

import asyncio
import time


class Clock:
    """Real timestamps, and delays divided by `speed`: at 3600 an hour of HubSpot's delay takes one second."""

    def __init__(self, *, speed: float = 1.0) -> None:
        if speed <= 0:
            raise ValueError("speed must be above 0")
        self._speed = speed
        self._passed_s = 0.0  # HubSpot's time until the speed was last set
        self._set_at_s = self.monotonic_s()

    @property
    def speed(self) -> float:
        """How many seconds pass at HubSpot in one; setting it does not shorten delays that have begun."""
        return self._speed

    @speed.setter
    def speed(self, speed: float) -> None:
        self._passed_s, self._set_at_s, self._speed = self.hubspot_s(), self.monotonic_s(), speed

    def hubspot_s(self) -> float:
        """Seconds of HubSpot's time since the start."""
        return self._passed_s + (self.monotonic_s() - self._set_at_s) * self._speed

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Monotonic seconds, for windows and latencies."""
        return time.monotonic()

    async def sleep_s(self, hubspot_s: float) -> None:
        """Wait `hubspot_s` seconds of HubSpot's time."""
        await asyncio.sleep(hubspot_s / self.speed)


class ManualClock(Clock):
    """A clock that moves only by `advance`, for tests that must not wait."""

    def __init__(self, *, now_ms: int | None = None) -> None:
        self._elapsed_s = 0.0
        super().__init__()
        self._start_ms = super().now_ms() if now_ms is None else now_ms
        self._advanced = asyncio.Event()

    def now_ms(self) -> int:
        """Milliseconds since the epoch: the start plus the time advanced."""
        return self._start_ms + round(self._elapsed_s * 1000)

    def monotonic_s(self) -> float:
        """The seconds by which the clock was advanced."""
        return self._elapsed_s

    def advance(self, seconds: float) -> None:
        """Advance the clock and wake every sleeper whose time has come."""
        self._elapsed_s += seconds
        self._advanced.set()
        self._advanced = asyncio.Event()

    async def sleep_s(self, hubspot_s: float) -> None:
        """Wait until the clock has been advanced by `hubspot_s` seconds."""
        due_s = self._elapsed_s + hubspot_s
        while self._elapsed_s < due_s:
            await self._advanced.wait()
