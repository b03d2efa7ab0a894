"""The page of `/metrics`: what all processes have counted, and how it stands now. Rule: any web process tells the same.

What can be told without a worker is measured here, so that it is told when there is none.
"""

import asyncio
import hmac
import time
from collections import Counter
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.core import clock
from spokes.core.delivery import ALERTS_ACTIVE, AUDIT_STREAM, JOB_QUEUE
from spokes.core.telemetry.metric_totals import (
    GAUGES,
    LIVE_PROCESSES,
    PROCESS_TTL_S,
    MetricTotals,
    Samples,
    render_page,
    sample_key,
)

CONTENT_TYPE: Final = "text/plain; version=1.0.0; charset=utf-8"
_EXPECTED_PROCESSES: Final = ("web", "worker")  # of which none is worth an alert


class MetricsPage:
    """Made once for all who ask at the same time, so that a flood of them costs Redis no more than one."""

    def __init__(self, redis: Redis, totals: MetricTotals, token: str) -> None:
        """Tell who presents `token`; everybody when it is empty."""
        self._redis = redis
        self._totals = totals
        self._token = token
        self._render_task: asyncio.Task[bytes] | None = None

    def may_read(self, authorization: str) -> bool:
        """Return whether the header of a request allows it to see the page."""
        presented = f"Bearer {self._token}".encode()
        return not self._token or hmac.compare_digest(authorization.encode(), presented)

    async def render(self) -> bytes:
        """Return the page; while Redis is away, with what is known without it."""
        if self._render_task is None or self._render_task.done():
            self._render_task = asyncio.create_task(self._render())
        return await asyncio.shield(self._render_task)

    async def _render(self) -> bytes:
        started = time.perf_counter()
        try:
            figures = await _measure_gauges(self._redis)
        except (RedisError, OSError):
            return render_page(await self._totals.read() | {sample_key("spokes_redis_up"): 0.0})
        figures |= {
            sample_key("spokes_redis_up"): 1.0,
            sample_key("spokes_redis_seconds"): time.perf_counter() - started,
        }
        return render_page(await self._totals.read() | figures)


async def _measure_gauges(redis: Redis) -> Samples:
    """Measure what waits, what stands and who lives."""
    now_ms = clock.now_ms()
    async with redis.pipeline(transaction=False) as pipeline:
        pipeline.hgetall(GAUGES)
        pipeline.hkeys(ALERTS_ACTIVE)
        pipeline.zcount(JOB_QUEUE, "-inf", now_ms)
        pipeline.zcard(JOB_QUEUE)
        pipeline.zrange(JOB_QUEUE, 0, 0, withscores=True)
        pipeline.xlen(AUDIT_STREAM)
        pipeline.xrange(AUDIT_STREAM, count=1)
        pipeline.zrangebyscore(LIVE_PROCESSES, now_ms / 1000 - PROCESS_TTL_S, "+inf")
        measured, alerts, due, all_, first, waiting, oldest, living = await pipeline.execute()
    late_ms = now_ms - first[0][1] if first else 0
    lag_ms = now_ms - int(oldest[0][0].partition(b"-")[0]) if oldest else 0
    kinds = Counter(member.decode().partition(":")[0] for member in living)
    return {
        **{name.decode(): float(value) for name, value in measured.items()},
        **{sample_key("spokes_alert_standing", alert=name.decode().partition(":")[0]): 1.0 for name in alerts},
        sample_key("spokes_queue_deliveries", state="due"): due,
        sample_key("spokes_queue_deliveries", state="later"): all_ - due,
        sample_key("spokes_queue_late_seconds"): max(late_ms, 0) / 1000,
        sample_key("spokes_archive_waiting"): waiting,
        sample_key("spokes_archive_lag_seconds"): max(lag_ms, 0) / 1000,
        **{sample_key("spokes_processes", process=kind): float(kinds[kind]) for kind in {*_EXPECTED_PROCESSES, *kinds}},
    }
