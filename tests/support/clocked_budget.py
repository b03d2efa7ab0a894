"""rate_budget.lua on a clock of the test's own, in seconds."""

from typing import Final

from redis.asyncio import Redis

from spokes.crm.transport import rate_budget

SECOND: Final = 1_000_000  # the script counts microseconds
_START_S: Final = 1_000
_SCRIPT: Final = rate_budget._SCRIPT.replace("redis.call('TIME')", "{tonumber(ARGV[#ARGV]) / 1e6, 0}")
_KEYS: Final = ["slots", "imports", "portal", "queues", "round trips"]


class ClockedBudget:
    """The operations `take` and `end` for calls, at the times that a test names."""

    def __init__(self, redis: Redis, *, limit: int, window_s: float = 10.0, reserve: float = 0.0) -> None:
        self._script = redis.register_script(_SCRIPT)
        self._limit = limit
        self._window = round(window_s * SECOND)
        self._reserve = reserve

    async def take(self, slot: str, now_s: float, priority: str = "interactive", queue: str = "") -> list[int]:
        """Request a slot; return the script's answer: whether it is granted, and the wait in microseconds."""
        window = self._window
        return await self._call(
            "take", slot, self._limit, window, 3 * window, self._reserve, priority, queue, now_s=now_s
        )

    async def end(
        self,
        slot: str,
        now_s: float,
        round_trip_s: float,
        *,
        day_left: int | None = None,
        day_limit: int = 0,
        day_left_s: float = 0.0,
    ) -> None:
        """End the call of a slot, whose response may have reported what is left of the day."""
        day = "" if day_left is None else day_left, day_limit, round(day_left_s * SECOND)
        await self._call("end", slot, self._window, round(round_trip_s * SECOND), "", *day, now_s=now_s)

    async def _call(self, operation: str, *arguments: str | float, now_s: float) -> list[int]:
        now = round((_START_S + now_s) * SECOND)
        answer: list[int] = await self._script(keys=_KEYS, args=[operation, "calls", *arguments, now])
        return answer
