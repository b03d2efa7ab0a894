"""The `/metrics` page: counters of all processes, and current gauges. Every web process renders the same page.

Gauges that do not need a worker are measured here, so that the page has them while no worker runs.
"""

import asyncio
import hmac
import time
from collections import Counter
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.core import clock
from spokes.core.redis.keys import ALERTS_ACTIVE, AUDIT_STREAM, LIVE_PROCESSES, METRIC_GAUGES, QUEUES
from spokes.core.telemetry.metric_totals import PROCESS_TTL_S, MetricTotals, Samples, render_page, sample_key
from spokes.core.telemetry.metrics import (
    ALERT_ACTIVE,
    ARCHIVE_LAG_SECONDS,
    ARCHIVE_WAITING,
    PROCESSES,
    QUEUE_DELIVERIES,
    QUEUE_OLDEST_DUE_SECONDS,
    REDIS_SECONDS,
    REDIS_UP,
)

CONTENT_TYPE: Final = "text/plain; version=1.0.0; charset=utf-8"
_EXPECTED_PROCESSES: Final = ("web", "worker")  # shown as 0 if none runs, which an alert rule can match


class MetricsPage:
    """Renders the page once for all concurrent requests, so that a flood of them costs Redis no more than one."""

    def __init__(self, redis: Redis, totals: MetricTotals, token: str) -> None:
        """Require `token` as a bearer token; an empty one makes the page public."""
        self._redis = redis
        self._totals = totals
        self._token = token
        self._render_task: asyncio.Task[bytes] | None = None

    def may_read(self, authorization: str) -> bool:
        """Return whether the `Authorization` header of a request permits reading the page."""
        expected = f"Bearer {self._token}".encode()
        # aiohttp keeps bytes that are not UTF-8 as surrogates
        return not self._token or hmac.compare_digest(authorization.encode(errors="surrogateescape"), expected)

    async def render(self) -> bytes:
        """Return the page; during a Redis outage, with the totals read last."""
        if self._render_task is None or self._render_task.done():
            self._render_task = asyncio.create_task(self._render())
        return await asyncio.shield(self._render_task)

    async def _render(self) -> bytes:
        started = time.perf_counter()
        try:
            gauges = await _measure_gauges(self._redis)
        except (RedisError, OSError):
            return render_page(await self._totals.read() | {sample_key(REDIS_UP): 0.0})
        gauges |= {
            sample_key(REDIS_UP): 1.0,
            sample_key(REDIS_SECONDS): time.perf_counter() - started,
        }
        return render_page(await self._totals.read() | gauges)


async def _measure_gauges(redis: Redis) -> Samples:
    """Measure queue, audit stream, active alerts and live processes; add the gauges that workers measured."""
    now_ms = clock.now_ms()
    async with redis.pipeline(transaction=False) as pipeline:
        pipeline.hgetall(METRIC_GAUGES)
        pipeline.hkeys(ALERTS_ACTIVE)
        for queue in QUEUES.values():
            pipeline.zcount(queue, "-inf", now_ms)
            pipeline.zcard(queue)
            pipeline.zrange(queue, 0, 0, withscores=True)
        pipeline.xlen(AUDIT_STREAM)
        pipeline.xrange(AUDIT_STREAM, count=1)
        pipeline.zrangebyscore(LIVE_PROCESSES, now_ms / 1000 - PROCESS_TTL_S, "+inf")
        worker_gauges, alerts, *queues, unarchived, oldest_record, processes = await pipeline.execute()
    due, queued = sum(queues[0::3]), sum(queues[1::3])
    overdue_ms = max((now_ms - first_job[0][1] for first_job in queues[2::3] if first_job), default=0)
    lag_ms = now_ms - int(oldest_record[0][0].partition(b"-")[0]) if oldest_record else 0
    running = Counter(member.decode(errors="replace").partition(":")[0] for member in processes)
    return {
        **{name.decode(): float(value) for name, value in worker_gauges.items()},
        **{sample_key(ALERT_ACTIVE, alert=name.decode(errors="replace").partition(":")[0]): 1.0 for name in alerts},
        sample_key(QUEUE_DELIVERIES, state="due"): due,
        sample_key(QUEUE_DELIVERIES, state="later"): queued - due,
        sample_key(QUEUE_OLDEST_DUE_SECONDS): max(overdue_ms, 0) / 1000,
        sample_key(ARCHIVE_WAITING): unarchived,
        sample_key(ARCHIVE_LAG_SECONDS): max(lag_ms, 0) / 1000,
        **{sample_key(PROCESSES, process=kind): float(running[kind]) for kind in {*_EXPECTED_PROCESSES, *running}},
    }
