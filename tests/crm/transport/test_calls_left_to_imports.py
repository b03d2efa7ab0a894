"""rate_budget.lua on a clock of its own: what imports leave to interactive calls, and what these leave to imports."""

import heapq
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import pytest
from redis.asyncio import Redis

from spokes.core.priority import Priority
from tests.support.clocked_budget import SECOND, ClockedBudget

LIMIT: Final = 190
RESERVE: Final = 0.05
WINDOW_S: Final = 10.0
LATENCY_S: Final = 0.03


class Budget:
    """Interactive calls at given times, or as many as are granted; and imports, as many as are granted."""

    def __init__(self, redis: Redis) -> None:
        self.waits_s: list[float] = []  # of interactive calls
        self.interactive: list[float] = []  # when they were granted
        self.imports: list[float] = []
        self._budget = ClockedBudget(redis, limit=LIMIT, window_s=WINDOW_S, reserve=RESERVE)
        self._due: list[tuple[float, int, Callable[[], Awaitable[None]]]] = []
        self._numbers = itertools.count()
        self._now = 0.0
        self._is_greedy = False

    async def run(self, interactive: Sequence[float] | None, seconds: float) -> None:
        self._is_greedy = interactive is None
        for at in (0.0,) if interactive is None else interactive:
            self._at(at, lambda at=at: self._take("interactive", at))  # type: ignore[misc]  # mypy infers no lambda with a default
        self._at(0.0, lambda: self._take("import", 0.0))
        while self._due[0][0] <= seconds:
            self._now, _, act = heapq.heappop(self._due)
            await act()

    def _at(self, due: float, act: Callable[[], Awaitable[None]]) -> None:
        heapq.heappush(self._due, (due, next(self._numbers), act))

    async def _take(self, priority: Priority, requested: float) -> None:
        slot = f"{priority} {next(self._numbers)}"
        is_granted, wait, *_ = await self._budget.take(slot, self._now, priority)
        if not is_granted:
            self._at(self._now + max(int(wait) / SECOND, 0.001), lambda: self._take(priority, requested))
            return
        self._at(self._now + LATENCY_S, lambda: self._end(slot))
        if priority == "interactive":
            self.interactive.append(self._now)
            self.waits_s.append(self._now - requested)
        else:
            self.imports.append(self._now)
        if priority == "import" or self._is_greedy:
            next_s = self._now + 0.001
            self._at(next_s, lambda: self._take(priority, next_s))

    async def _end(self, slot: str) -> None:
        await self._budget.end(slot, self._now, LATENCY_S)


def evenly(rate: float, start: float, end: float) -> list[float]:
    """Return the times of `rate` calls a second."""
    return [start + number / rate for number in range(round(rate * (end - start)))]


@pytest.mark.parametrize(
    ("interactive", "longest_wait_s"),
    [
        pytest.param(evenly(14.5, 0, 30), 0.2, id="both begin together"),
        pytest.param(evenly(2, 0, 15) + evenly(14.5, 15, 30), 0.1, id="a small load grows"),
        pytest.param(evenly(30, 0, 1) + evenly(14.5, 1, 30), 0.3, id="a burst of calls comes first"),
        pytest.param(evenly(14.5, 5, 30), 1.0, id="imports alone have taken half of the limit"),
    ],
)
async def test_interactive_load_that_begins_beside_an_import_waits_for_few_slots(
    redis: Redis, interactive: list[float], longest_wait_s: float
) -> None:
    budget = Budget(redis)
    await budget.run(interactive, 30)
    assert max(budget.waits_s) < longest_wait_s
    assert sum(wait_s > 0.05 for wait_s in budget.waits_s) < 0.05 * len(interactive)


@pytest.mark.parametrize("rate", [0.0, 2.0, 10.0, 14.5])
async def test_imports_get_nine_tenths_of_the_calls_that_interactive_work_and_the_reserve_leave(
    redis: Redis, rate: float
) -> None:
    budget = Budget(redis)
    await budget.run(evenly(rate, 0, 30), 30)
    left = LIMIT * (1 - RESERVE) - rate * WINDOW_S
    assert sum(20 <= at < 30 for at in budget.imports) >= 0.9 * left


async def test_imports_keep_the_reserve_beside_interactive_calls_that_would_use_everything(redis: Redis) -> None:
    budget = Budget(redis)
    await budget.run(None, 30)
    assert sum(20 <= at < 30 for at in budget.imports) >= int(LIMIT * RESERVE)


async def test_limit_is_met_in_no_window(redis: Redis) -> None:
    budget = Budget(redis)
    await budget.run(evenly(14.5, 5, 30), 30)
    calls = sorted([*budget.interactive, *budget.imports])
    assert max(sum(at <= each < at + WINDOW_S - 2 / SECOND for each in calls) for at in calls) <= LIMIT
