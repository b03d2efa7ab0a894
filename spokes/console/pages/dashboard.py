"""What the page *Now* shows, gathered at most every other second however many look. Rule: each asker's portals only.

Numbers as lines of an SVG. Rule: pure; a drawing is 100 by 100 and stretched, so its text stands beside it.

Source of the steps on the axis: 1, 2 and 5 times a power of ten, as on any paper.
"""

import asyncio
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from redis.asyncio import Redis

from spokes.console.queries.alerts import ActiveAlert, active_alerts
from spokes.console.queries.budgets import PortalBudget, portal_budgets
from spokes.console.queries.dead_letters import count_dead_letters
from spokes.console.queries.portal_scope import Portals
from spokes.console.queries.queue import Queue, queue_status
from spokes.console.queries.throughput import Minute, throughput
from spokes.console.web.app_keys import REDIS, SETTINGS
from spokes.core.errors import CRMUnavailable, HttpProblem
from spokes.core.settings import Settings

_SIDE: Final = 100.0
_STEPS: Final = (1, 2, 5, 10)


@dataclass(frozen=True, slots=True)
class Chart:
    """Several lines over one time: `lines` and the `area` below the first are paths; `top` is the axis' end."""

    top: float
    lines: tuple[str, ...]
    area: str


def draw_chart(*series: Sequence[float]) -> Chart:
    """Draw series of equal length, the oldest value first."""
    top = round_up(max((value for line in series for value in line), default=0.0))
    lines = tuple(_path(line, top) for line in series)
    area = f"{lines[0]} L{_SIDE:g},{_SIDE:g} L0,{_SIDE:g} Z" if lines and lines[0] else ""
    return Chart(top, lines, area)


def round_up(value: float) -> float:
    """Return the least round number that is not below `value`, ten at the least."""
    if value <= _STEPS[-1]:
        return float(_STEPS[-1])
    unit = 10.0 ** math.floor(math.log10(value))
    return next(step * unit for step in _STEPS if step * unit >= value)


def _path(values: Sequence[float], top: float) -> str:
    if not values:
        return ""
    if len(values) == 1:
        values = (values[0], values[0])
    step = _SIDE / (len(values) - 1)
    points = (f"{at * step:.2f},{_SIDE - value / top * _SIDE:.2f}" for at, value in enumerate(values))
    return "M" + " L".join(points)


FRESH_S: Final = 2.0
_MINUTES_SHOWN: Final = 60  # minutes
_RECENT_MINUTES: Final = 15  # minutes that outcomes and failures are counted over

_MAX_FAILING_HANDLERS: Final = 8  # failing handlers


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """How it stands; `minutes` is None for who may see some portals only."""

    queue: Queue
    alerts: tuple[ActiveAlert, ...]
    budgets: tuple[PortalBudget, ...]
    dead_letters: int
    minutes: tuple[Minute, ...] | None

    @property
    def newest_minute(self) -> Minute:
        """The newest minute."""
        return self.minutes[-1] if self.minutes else Minute(at=0)

    @property
    def chart(self) -> Chart:
        """Events in and out."""
        minutes = self.minutes or ()
        return draw_chart([one.received for one in minutes], [one.ended for one in minutes])

    @property
    def outcomes(self) -> list[tuple[str, float]]:
        """How many runs of the last minutes ended how, the most frequent first."""
        return _largest_first(_sum_by_name(one.outcomes for one in self._recent))

    @property
    def failing(self) -> list[tuple[str, float, float]]:
        """The handlers that failed of late: name, runs that failed, all runs; the worst first."""
        runs = _sum_by_name(one.runs for one in self._recent)
        failures = _largest_first(_sum_by_name(one.failures for one in self._recent))
        return [(name, failed, runs.get(name, failed)) for name, failed in failures[:_MAX_FAILING_HANDLERS]]

    @property
    def _recent(self) -> tuple[Minute, ...]:
        return (self.minutes or ())[-_RECENT_MINUTES:]


class DashboardCache:
    """The newest board for each set of portals."""

    def __init__(self) -> None:
        self._cached: dict[Portals, tuple[float, Dashboard]] = {}
        self._lock = asyncio.Lock()

    async def get(self, settings: Settings, redis: Redis, portals: Portals) -> Dashboard:
        """Return the board, a moment old at the most.

        Raises:
            RedisError, OSError, CRMUnavailable: Redis does not answer.
        """
        async with self._lock:
            known = self._cached.get(portals)
            if known is None or time.monotonic() - known[0] > FRESH_S:
                self._cached = {
                    whose: one for whose, one in self._cached.items() if time.monotonic() - one[0] < FRESH_S
                }
                known = self._cached[portals] = time.monotonic(), await _gather(settings, redis, portals)
            return known[1]


DASHBOARD_CACHE: Final = web.AppKey("boards", DashboardCache)


async def current_dashboard(app: web.Application, portals: Portals) -> Dashboard:
    """Return how it stands; see `Boards.get`.

    Raises:
        RedisError, OSError, Problem: Redis does not answer.
    """
    try:
        return await app[DASHBOARD_CACHE].get(app[SETTINGS], app[REDIS], portals)
    except CRMUnavailable:  # what the budget says when it cannot reach Redis
        raise HttpProblem(
            503, "redis_unavailable", "Redis does not answer; try again shortly.", retry_after_s=5
        ) from None


async def _gather(settings: Settings, redis: Redis, portals: Portals) -> Dashboard:
    waiting, standing, used, dead, minutes = await asyncio.gather(
        queue_status(redis, portals),
        active_alerts(redis, portals),
        portal_budgets(settings, redis, portals),
        count_dead_letters(redis, portals),
        throughput(redis, portals, minutes=_MINUTES_SHOWN),
    )
    return Dashboard(queue=waiting, alerts=standing, budgets=used, dead_letters=dead, minutes=minutes)


def _sum_by_name(counts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for one in counts:
        for name, value in one.items():
            total[name] = total.get(name, 0.0) + value
    return total


def _largest_first(counts: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(counts.items(), key=lambda told: (-told[1], told[0]))
