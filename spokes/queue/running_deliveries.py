"""Deliveries that workers have run for some seconds, published by each worker: since when, and in which handlers."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import orjson
from redis.asyncio import Redis

from spokes.audit.alerts.bad_items import read_items
from spokes.core import clock
from spokes.core.redis import keys

PUBLISH_EVERY_S: Final = 5.0
MIN_AGE_S: Final = 5.0  # younger ones are not published: nearly all deliveries end sooner
_STALE_MS: Final = 60_000  # a worker that has not published for so long is gone


class RunningDelivery(NamedTuple):
    """A delivery in progress.

    Attributes:
        id: of the delivery.
        worker: the name of the worker process that runs it.
        started_at: epoch ms.
        handlers: those that run for its events.
        is_overdue: whether it runs for longer than handlers can explain.
    """

    id: str
    worker: str
    started_at: int
    handlers: tuple[str, ...]
    is_overdue: bool


async def publish_running(redis: Redis, worker: str, deliveries: Sequence[RunningDelivery]) -> None:
    """Replace what a worker has published."""
    if not deliveries:
        await redis.hdel(keys.RUNNING_DELIVERIES, worker)  # type: ignore[misc]  # redis-py types one class for sync and async
        return
    runs = [(run.id, run.started_at, run.handlers, run.is_overdue) for run in deliveries]
    stored = orjson.dumps({"at": clock.now_ms(), "runs": runs})
    await redis.hset(keys.RUNNING_DELIVERIES, worker, stored.decode())  # type: ignore[misc]  # as above


async def running_deliveries(redis: Redis) -> list[RunningDelivery]:
    """Return the published deliveries of all live workers, the longest running first; forget workers that are gone."""
    stored = await redis.hgetall(keys.RUNNING_DELIVERIES)  # type: ignore[misc]  # as above
    published = await read_items(redis, "running_deliveries", stored.items(), _read_worker)
    fresh_ms = clock.now_ms() - _STALE_MS
    if gone := [worker for worker, at, _ in published if at < fresh_ms]:
        await redis.hdel(keys.RUNNING_DELIVERIES, *gone)  # type: ignore[misc]  # as above
    runs = (run for _, at, worker_runs in published if at >= fresh_ms for run in worker_runs)
    return sorted(runs, key=lambda run: run.started_at)


def _read_worker(item: tuple[bytes, bytes]) -> tuple[str, int, list[RunningDelivery]]:
    worker, stored = item[0].decode(), orjson.loads(item[1])
    return worker, int(stored["at"]), [_read_run(worker, run) for run in stored["runs"]]


def _read_run(worker: str, run: Any) -> RunningDelivery:
    delivery_id, started_at, handlers, is_overdue = run
    return RunningDelivery(str(delivery_id), worker, int(started_at), tuple(map(str, handlers)), bool(is_overdue))
