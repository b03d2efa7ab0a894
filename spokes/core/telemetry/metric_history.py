"""What all processes had counted at the end of each minute, for three hours. Rule: sums as they stood, packed.

Whoever shows a rate takes differences; a sum that is smaller than the one before it was begun anew.
"""

from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis

from spokes.core import clock
from spokes.core.delivery import decode, encode
from spokes.core.errors import UnreadableDelivery
from spokes.core.telemetry.metric_totals import TOTALS, Samples

HISTORY: Final = "spokes:minutes"  # list of packed snapshots, the newest first
MAX_SNAPSHOTS: Final = 180
_HISTORY_TTL_S: Final = 4 * 3600
_FAMILIES: Final = tuple(
    f'["spokes_{name}"'
    for name in ("events_total", "outcomes_total", "crm_calls_total", "budget_wait_seconds_sum")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The sums at one moment, in epoch ms."""

    at: int
    sums: Samples


async def take_snapshot(redis: Redis) -> Snapshot:
    """Return the sums of now that rates are made of.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    found: dict[bytes, bytes] = await redis.hgetall(TOTALS)  # type: ignore[misc]  # redis-py types one class for sync and async
    named = {name.decode(): float(value) for name, value in found.items()}
    return Snapshot(clock.now_ms(), {name: sum_ for name, sum_ in named.items() if name.startswith(_FAMILIES)})


async def append_snapshot(redis: Redis, snapshot: Snapshot) -> None:
    """Put a snapshot before those that are kept, and let the oldest go.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    async with redis.pipeline(transaction=True) as pipeline:
        pipeline.lpush(HISTORY, encode({"at": snapshot.at, "sums": snapshot.sums}))
        pipeline.ltrim(HISTORY, 0, MAX_SNAPSHOTS - 1)
        pipeline.expire(HISTORY, _HISTORY_TTL_S)
        await pipeline.execute()


async def load_snapshots(redis: Redis, limit: int = MAX_SNAPSHOTS) -> list[Snapshot]:
    """Return the newest snapshots, the oldest of them first; one that nobody can read is left out.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    found: list[bytes] = await redis.lrange(HISTORY, 0, limit - 1)  # type: ignore[misc]  # redis-py types one class for sync and async
    snapshots = [one for payload in reversed(found) if (one := _parse_snapshot(payload))]
    return sorted(snapshots, key=lambda one: one.at)


def _parse_snapshot(payload: bytes) -> Snapshot | None:
    try:
        told = decode(payload)
        return Snapshot(int(told["at"]), {str(name): float(value) for name, value in told["sums"].items()})
    except (UnreadableDelivery, KeyError, TypeError, ValueError, AttributeError):
        return None
