"""The clock of a test: real time plus what the test has advanced. Simulator, receiver, worker and Redis follow it."""

import re
import time
from datetime import timedelta
from typing import Final, TypeAlias

from redis.asyncio import Redis

from spokes.core import clock
from spokes.core.redis.scripts import read_script
from spokes.crm.transport import rate_budget
from spokes.simulator.clock import Clock
from workers.handlers import limits
from workers.lanes import lane_manager

Duration: TypeAlias = str | float | timedelta
_ADVANCE: Final = read_script(__file__, "advance.lua")
_VIRTUAL_TIME: Final = read_script(__file__, "virtual_time.lua")
_TIMED_SCRIPTS: Final = (rate_budget, lane_manager, limits)  # the modules whose Lua scripts read the server's time
_UNITS_S: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 7 * 86_400}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)")


class VirtualClock(Clock):
    """Real time plus an offset that only grows, until `reset`."""

    def __init__(self) -> None:
        self._offset_ns = 0
        super().__init__()

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

    async def advance(self, redis: Redis, milliseconds: int) -> None:
        """Advance the clock, and the time of a Redis that only this test uses."""
        if milliseconds > 0:
            self._offset_ns += milliseconds * 1_000_000
            await redis.eval(_ADVANCE, 0, str(milliseconds), str(self.offset_ms))  # type: ignore[misc]  # redis-py types one class for sync and async

    def install(self) -> None:
        """Make this process read the time from this clock."""
        clock.read_ns = self.now_ns
        for module in _TIMED_SCRIPTS:
            _set_script(module, _VIRTUAL_TIME + module._SCRIPT.removeprefix(_VIRTUAL_TIME))  # noqa: SLF001 - see _TIMED_SCRIPTS

    def reset(self) -> None:
        """Return to real time, in the whole process."""
        self._offset_ns = 0
        clock.read_ns = time.time_ns
        for module in _TIMED_SCRIPTS:
            _set_script(module, module._SCRIPT.removeprefix(_VIRTUAL_TIME))  # noqa: SLF001 - see _TIMED_SCRIPTS


def _set_script(module: object, script: str) -> None:
    vars(module)["_SCRIPT"] = script


def duration_ms(duration: Duration) -> int:
    """Return a duration in milliseconds: seconds, a timedelta, or a text such as `3 days` or `1 hour 30 minutes`.

    Raises:
        ValueError: it is none of them, or negative.
    """
    if isinstance(duration, timedelta):
        milliseconds = duration / timedelta(milliseconds=1)
    elif isinstance(duration, str):
        parts = [(float(number), unit.removesuffix("s")) for number, unit in _PART.findall(duration)]
        if not parts or _PART.sub("", duration).strip() or any(unit not in _UNITS_S for _, unit in parts):
            raise ValueError(f"{duration!r} is no duration: write seconds, or a text such as '3 days' or '90 seconds'.")
        milliseconds = sum(number * _UNITS_S[unit] for number, unit in parts) * 1000
    else:
        milliseconds = duration * 1000
    if milliseconds < 0:
        raise ValueError("time does not go backwards: advance by a positive duration.")
    return round(milliseconds)
