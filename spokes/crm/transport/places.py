"""A place in the budget, held for one call, and who may hold how many. Rule: nothing here asks Redis.

Source: HubSpot's docs, "API usage guidelines and limits" (headers).
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_SHORT_DAY: Final = 0.1  # share of the daily limit, below which it matters when the day ends


@dataclass(frozen=True, slots=True)
class KindState:
    """What a kind of call may do now: calls a window, places taken, seconds until a pause ends (0 when none is on).

    `day_left` is how many calls are left of the portal's day, None where HubSpot has not told it.
    """

    limit: int
    used: int
    waiting_s: float
    why: str
    day_left: int | None = None


class Place:
    """A place in the budget, held for one call."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self.made_call = True
        self.told_limit: int | None = None
        self.told_day_left: int | None = None
        self.is_day_short = False

    def answered(self, headers: Mapping[str, str]) -> None:
        """Learn the limits from an answer's headers, names in lower case."""
        limit = headers.get("x-hubspot-ratelimit-max", "")
        interval = headers.get("x-hubspot-ratelimit-interval-milliseconds", "")
        if limit.isdecimal() and int(limit) > 0 and interval in {"", str(round(self._window_s * 1000))}:
            self.told_limit = int(limit)
        daily = headers.get("x-hubspot-ratelimit-daily", "")
        left = headers.get("x-hubspot-ratelimit-daily-remaining", "")
        if daily.isdecimal() and left.isdecimal():
            self.told_day_left = int(left)
            self.is_day_short = int(left) < int(daily) * _SHORT_DAY

    def unused(self) -> None:
        """Say that no call was made: the place is free at once."""
        self.made_call = False


class Threads:
    """The threads of the client, so that no place waits for one; no portal has more than three quarters of them.

    A portal whose calls hang therefore leaves the others their calls.
    """

    def __init__(self, concurrency: int) -> None:
        self._all = asyncio.Semaphore(concurrency)
        self._own: defaultdict[int, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(concurrency - concurrency // 4)
        )

    async def take(self, portal_id: int) -> None:
        """Wait for a thread, first come first served."""
        own = self._own[portal_id]
        await own.acquire()
        try:
            await self._all.acquire()
        except BaseException:
            own.release()
            raise

    def give(self, portal_id: int) -> None:
        """Give one back."""
        self._all.release()
        self._own[portal_id].release()
