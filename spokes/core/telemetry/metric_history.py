"""Snapshots of the metric totals, one a minute for three hours, in a Redis list.

A rate is the difference of two snapshots. A sum that is smaller than the previous one was reset in between.
"""

from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis

from spokes.core import clock
from spokes.core.delivery import decode, encode
from spokes.core.errors import UnreadableDelivery
from spokes.core.redis.keys import METRIC_HISTORY, METRIC_TOTALS
from spokes.core.telemetry.metric_totals import MetricTotals, Samples, read_samples, sample_name
from spokes.core.telemetry.metrics import BUDGET_WAIT_SECONDS, CRM_CALLS, EVENTS, OUTCOMES

MAX_SNAPSHOTS: Final = 180
_HISTORY_TTL_S: Final = 4 * 3600
_KEY_PREFIXES: Final = tuple(
    f'["{name}"'
    for name in (
        sample_name(EVENTS),
        sample_name(OUTCOMES),
        sample_name(CRM_CALLS),
        sample_name(BUDGET_WAIT_SECONDS, "_sum"),
    )
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The totals at one moment, `at` in epoch ms."""

    at: int
    sums: Samples


async def take_snapshot(redis: Redis) -> Snapshot:
    """Return the current totals of the metrics that the console shows as rates.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    totals: dict[bytes, bytes] = await redis.hgetall(METRIC_TOTALS)  # type: ignore[misc]  # redis-py types one class for sync and async
    sums = read_samples(totals)
    shown = {key: value for key, value in sums.items() if value and key.startswith(_KEY_PREFIXES)}
    return Snapshot(clock.now_ms(), shown)


async def begin_history(redis: Redis) -> None:
    """Store the first snapshot if there is none. Call it before counts are added, or *Now* would miss the first ones.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    if not await redis.exists(METRIC_HISTORY):
        await append_snapshot(redis, await take_snapshot(redis))


async def flush_with_history(redis: Redis, totals: MetricTotals) -> None:
    """Add a process's increments to the totals, in a history that began before.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    await begin_history(redis)
    await totals.flush()


async def append_snapshot(redis: Redis, snapshot: Snapshot) -> None:
    """Store a snapshot and drop the oldest.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    async with redis.pipeline(transaction=True) as pipeline:
        pipeline.lpush(METRIC_HISTORY, encode({"at": snapshot.at, "sums": snapshot.sums}))
        pipeline.ltrim(METRIC_HISTORY, 0, MAX_SNAPSHOTS - 1)
        pipeline.expire(METRIC_HISTORY, _HISTORY_TTL_S)
        await pipeline.execute()


async def load_snapshots(redis: Redis, limit: int = MAX_SNAPSHOTS) -> list[Snapshot]:
    """Return the newest `limit` snapshots, the oldest first; skip unreadable ones.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    payloads: list[bytes] = await redis.lrange(METRIC_HISTORY, 0, limit - 1)  # type: ignore[misc]  # redis-py types one class for sync and async
    snapshots = [snapshot for payload in reversed(payloads) if (snapshot := _parse_snapshot(payload))]
    return sorted(snapshots, key=lambda snapshot: snapshot.at)


def _parse_snapshot(payload: bytes) -> Snapshot | None:
    try:
        fields = decode(payload)
        return Snapshot(int(fields["at"]), {str(key): float(value) for key, value in fields["sums"].items()})
    except (UnreadableDelivery, KeyError, TypeError, ValueError, AttributeError):
        return None
