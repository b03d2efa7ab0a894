"""Isolate events that kill the workers that run them.

A delivery whose workers died several times is split into one delivery per event. In each process, at most one of these
runs at a time. An event during whose runs workers keep dying becomes a dead letter.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis

from spokes.audit.alert_episodes import AlertEpisodes
from spokes.core.delivery import Delivery
from spokes.core.redis import keys
from spokes.core.telemetry.alerts import Alert

SUSPECT_FROM_TRY: Final = 4  # the earlier tries neither finished nor were released: their workers were killed
_MAX_CRASHES: Final = 2  # of workers, while an event ran alone
_CRASH_COUNT_TTL_S: Final = 86_400


class CrashLoopGuard:
    """The suspected events of one worker process."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def isolate(self, delivery: Delivery) -> AsyncIterator["IsolatedRun"]:
        """Run a delivery of one event while no other suspect runs.

        The worker is counted as dead before the run, because a killed worker writes nothing after it. A run in which
        the handler ended clears the count. One that was postponed, cancelled or failed leaves the count as it was.
        """
        entry = delivery.entries[0]
        key = keys.crash_count(delivery.portal_id, entry.key)
        async with self._lock:
            crashes = await self._redis.incr(key) - 1
            await self._redis.expire(key, _CRASH_COUNT_TTL_S)
            run = IsolatedRun(is_crash_loop=crashes >= _MAX_CRASHES)
            if run.is_crash_loop:
                await AlertEpisodes(self._redis).report_once(
                    Alert.CRASH_LOOP, portal_id=delivery.portal_id, event_type=entry.event.type, event_key=entry.key
                )
            try:
                yield run
            finally:
                if run.has_survived:
                    await self._redis.delete(key)
                else:
                    await self._redis.decr(key)


@dataclass(slots=True)
class IsolatedRun:
    """A run of one event alone: whether it has killed too many workers before, and whether its handler has ended."""

    is_crash_loop: bool
    has_survived: bool = False


async def blame_event(redis: Redis, delivery: Delivery, event_key: str) -> None:
    """Record that an event ended its worker for certain: its next run is isolated, and makes it a dead letter."""
    tries_key = keys.RETRY_KEY_PREFIX + delivery.id
    tries = int(await redis.get(tries_key) or 0)
    async with redis.pipeline(transaction=True) as pipeline:
        pipeline.set(keys.crash_count(delivery.portal_id, event_key), _MAX_CRASHES, ex=_CRASH_COUNT_TTL_S)
        pipeline.set(tries_key, max(tries, SUSPECT_FROM_TRY - 1), ex=_CRASH_COUNT_TTL_S)
        await pipeline.execute()


async def settled_keys(redis: Redis, delivery: Delivery) -> set[str]:
    """Return the keys of the delivery's events that are settled."""
    settled = await redis.smembers(keys.settled_events(delivery.portal_id, delivery.id))  # type: ignore[misc]  # redis-py types one class for sync and async
    return {key.decode() for key in settled}
