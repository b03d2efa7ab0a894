"""The clock of a test: real time plus what the test has advanced. Worker, receiver and simulator read it."""

import time

from spokes.core import clock
from spokes.simulator.clock import Clock


class VirtualClock(Clock):
    """Real time plus an offset that only grows, until `reset`."""

    def __init__(self) -> None:
        super().__init__()
        self._offset_ns = 0

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return self.now_ns() // 1_000_000

    def now_ns(self) -> int:
        """Nanoseconds since the epoch."""
        return time.time_ns() + self._offset_ns

    def monotonic_s(self) -> float:
        """Seconds that grow with the clock."""
        return time.monotonic() + self._offset_ns / 1e9

    @property
    def offset_ms(self) -> int:
        """By how much the clock is ahead of real time."""
        return self._offset_ns // 1_000_000

    def advance_ms(self, milliseconds: int) -> None:
        """Advance the clock."""
        self._offset_ns += milliseconds * 1_000_000

    def install(self) -> None:
        """Make this process read the time from this clock."""
        clock.read_ns = self.now_ns

    def reset(self) -> None:
        """Return to real time, in the whole process."""
        self._offset_ns = 0
        clock.read_ns = time.time_ns
