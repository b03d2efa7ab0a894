"""The data of *Now*, collected at most every two seconds per set of portals, and its chart as SVG paths.

The SVG is 100 by 100 units and is stretched to the width of the page, so its labels are HTML outside it.
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
from spokes.console.queries.queue_classes import QueueClass, queue_classes
from spokes.console.queries.throughput import Minute, throughput
from spokes.console.web.app_keys import REDIS, SETTINGS
from spokes.core.errors import CRMUnavailable, HttpProblem
from spokes.core.settings import Settings

FRESH_S: Final = 2.0
_MINUTES_SHOWN: Final = 60
RECENT_MINUTES: Final = 15  # that all counts cover; the chart covers `_MINUTES_SHOWN`
_MAX_FAILING_HANDLERS: Final = 8
_SIDE: Final = 100.0  # of the drawing, in SVG units
_STEPS: Final = (1, 2, 5, 10)


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over the same time; `lines` and the `area` below the first are SVG paths, `top` is the end of the axis."""

    top: float
    lines: tuple[str, ...]
    area: str


def draw_chart(*series: Sequence[float]) -> Chart:
    """Return a chart of series of equal length, oldest value first."""
    top = round_up(max((value for line in series for value in line), default=0.0))
    lines = tuple(_path(line, top) for line in series)
    area = f"{lines[0]} L{_SIDE:g},{_SIDE:g} L0,{_SIDE:g} Z" if lines and lines[0] else ""
    return Chart(top, lines, area)


def round_up(value: float) -> float:
    """Return the smallest round number (1, 2 or 5 times a power of ten) not below `value`, at least ten."""
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
    points = (f"{index * step:.2f},{_SIDE - value / top * _SIDE:.2f}" for index, value in enumerate(values))
    return "M" + " L".join(points)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """The data of *Now*; `minutes` is None, and `classes` empty, for actors who may not see all portals."""

    queue: Queue
    alerts: tuple[ActiveAlert, ...]
    budgets: tuple[PortalBudget, ...]
    dead_letters: int
    minutes: tuple[Minute, ...] | None
    classes: tuple[QueueClass, ...] = ()

    @property
    def finished_minutes(self) -> tuple[Minute, ...]:
        """The minutes of the chart: the last one is unfinished, and has no rate yet."""
        return (self.minutes or ())[:-1]

    @property
    def chart(self) -> Chart:
        """Events received and ended per minute."""
        minutes = self.finished_minutes
        return draw_chart(
            [minute.per_minute(minute.received) for minute in minutes],
            [minute.per_minute(minute.ended) for minute in minutes],
        )

    @property
    def received(self) -> float:
        """Events received in the last minutes."""
        return sum(minute.received for minute in self._recent)

    @property
    def ended(self) -> float:
        """Events with a final outcome in the last minutes."""
        return sum(minute.ended for minute in self._recent)

    @property
    def calls(self) -> float:
        """Calls to HubSpot in the last minutes."""
        return sum(minute.calls for minute in self._recent)

    @property
    def rate_limited(self) -> float:
        """Calls that HubSpot answered with 429 in the last minutes."""
        return sum(minute.rate_limited for minute in self._recent)

    @property
    def waited_s(self) -> float:
        """Total wait of the calls for a slot of the rate budget in the last minutes."""
        return sum(minute.waited_s for minute in self._recent)

    @property
    def outcomes(self) -> list[tuple[str, float]]:
        """Handler calls of the last minutes by outcome, most frequent first."""
        return _largest_first(_sum_by_name(minute.outcomes for minute in self._recent))

    @property
    def failing(self) -> list[tuple[str, float, float]]:
        """Handlers that failed in the last minutes: name, failed calls, all calls; most failures first."""
        runs = _sum_by_name(minute.runs for minute in self._recent)
        failures = _largest_first(_sum_by_name(minute.failures for minute in self._recent))
        return [(name, failed, runs.get(name, failed)) for name, failed in failures[:_MAX_FAILING_HANDLERS]]

    @property
    def _recent(self) -> tuple[Minute, ...]:
        minutes = self.minutes or ()
        return tuple(minute for minute in minutes if minute.at > minutes[-1].at - RECENT_MINUTES * 60_000)


class DashboardCache:
    """The newest dashboard for each set of portals."""

    def __init__(self) -> None:
        self._cached: dict[Portals, tuple[float, Dashboard]] = {}
        self._lock = asyncio.Lock()

    async def get(self, settings: Settings, redis: Redis, portals: Portals) -> Dashboard:
        """Return the dashboard, at most `FRESH_S` old.

        Raises:
            RedisError, OSError, CRMUnavailable: Redis does not answer.
        """
        async with self._lock:
            cached = self._cached.get(portals)
            if cached is None or time.monotonic() - cached[0] > FRESH_S:
                self._cached = {
                    key: entry for key, entry in self._cached.items() if time.monotonic() - entry[0] < FRESH_S
                }
                cached = self._cached[portals] = time.monotonic(), await _gather(settings, redis, portals)
            return cached[1]


DASHBOARD_CACHE: Final = web.AppKey("dashboard_cache", DashboardCache)


async def current_dashboard(app: web.Application, portals: Portals) -> Dashboard:
    """Return the dashboard for these portals; see `DashboardCache.get`.

    Raises:
        RedisError, OSError, HttpProblem: Redis does not answer.
    """
    try:
        return await app[DASHBOARD_CACHE].get(app[SETTINGS], app[REDIS], portals)
    except CRMUnavailable:  # how the rate budget reports that Redis is unreachable
        raise HttpProblem(
            503, "redis_unavailable", "Redis does not answer. Try again shortly.", retry_after_s=5
        ) from None


async def _gather(settings: Settings, redis: Redis, portals: Portals) -> Dashboard:
    queue, alerts, budgets, dead_letters, minutes, classes = await asyncio.gather(
        queue_status(redis, portals),
        active_alerts(redis, portals),
        portal_budgets(settings, redis, portals),
        count_dead_letters(redis, portals),
        throughput(redis, portals, minutes=_MINUTES_SHOWN),
        _classes(redis, portals),
    )
    return Dashboard(
        queue=queue, alerts=alerts, budgets=budgets, dead_letters=dead_letters, minutes=minutes, classes=classes
    )


async def _classes(redis: Redis, portals: Portals) -> tuple[QueueClass, ...]:
    """Return the priority classes; none for actors who may not see all portals."""
    return await queue_classes(redis) if portals is None else ()


def _sum_by_name(counts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for by_name in counts:
        for name, value in by_name.items():
            total[name] = total.get(name, 0.0) + value
    return total


def _largest_first(counts: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
