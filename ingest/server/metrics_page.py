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

from spokes.core.delivery import ALERTS, AUDIT_STREAM, QUEUE_NAME
from spokes.core.telemetry.metric_totals import FIGURES, LIVES_S, PROCESSES, Samples, Totals, page, sample

CONTENT_TYPE: Final = "text/plain; version=1.0.0; charset=utf-8"
_KINDS: Final = ("web", "worker")  # of which none is worth an alert


class MetricsPage:
    """Made once for all who ask at the same time, so that a flood of them costs Redis no more than one."""

    def __init__(self, redis: Redis, totals: Totals, token: str) -> None:
        """Tell who presents `token`; everybody when it is empty."""
        self._redis = redis
        self._totals = totals
        self._token = token
        self._making: asyncio.Task[bytes] | None = None

    def may_read(self, authorization: str) -> bool:
        """Return whether the header of a request allows it to see the page."""
        presented = f"Bearer {self._token}".encode()
        return not self._token or hmac.compare_digest(authorization.encode(), presented)

    async def text(self) -> bytes:
        """Return the page; while Redis is away, with what is known without it."""
        if self._making is None or self._making.done():
            self._making = asyncio.create_task(self._make())
        return await asyncio.shield(self._making)

    async def _make(self) -> bytes:
        started = time.perf_counter()
        try:
            figures = await _figures(self._redis)
        except (RedisError, OSError):
            return page(await self._totals.known() | {sample("spokes_redis_up"): 0.0})
        figures |= {sample("spokes_redis_up"): 1.0, sample("spokes_redis_seconds"): time.perf_counter() - started}
        return page(await self._totals.known() | figures)


async def _figures(redis: Redis) -> Samples:
    """Measure what waits, what stands and who lives."""
    now_ms = time.time_ns() // 1_000_000
    async with redis.pipeline(transaction=False) as pipeline:
        pipeline.hgetall(FIGURES)
        pipeline.hkeys(ALERTS)
        pipeline.zcount(QUEUE_NAME, "-inf", now_ms)
        pipeline.zcard(QUEUE_NAME)
        pipeline.zrange(QUEUE_NAME, 0, 0, withscores=True)
        pipeline.xlen(AUDIT_STREAM)
        pipeline.xrange(AUDIT_STREAM, count=1)
        pipeline.zrangebyscore(PROCESSES, now_ms / 1000 - LIVES_S, "+inf")
        measured, alerts, due, all_, first, waiting, oldest, living = await pipeline.execute()
    late_ms = now_ms - first[0][1] if first else 0
    lag_ms = now_ms - int(oldest[0][0].partition(b"-")[0]) if oldest else 0
    kinds = Counter(member.decode().partition(":")[0] for member in living)
    return {
        **{name.decode(): float(value) for name, value in measured.items()},
        **{sample("spokes_alert_standing", alert=name.decode().partition(":")[0]): 1.0 for name in alerts},
        sample("spokes_queue_deliveries", state="due"): due,
        sample("spokes_queue_deliveries", state="later"): all_ - due,
        sample("spokes_queue_late_seconds"): max(late_ms, 0) / 1000,
        sample("spokes_archive_waiting"): waiting,
        sample("spokes_archive_lag_seconds"): max(lag_ms, 0) / 1000,
        **{sample("spokes_processes", process=kind): float(kinds[kind]) for kind in {*_KINDS, *kinds}},
    }
