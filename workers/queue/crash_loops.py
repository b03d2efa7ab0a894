"""Isolate an event that kills its workers. Rule: a suspect runs alone, and only deaths while it ran count against it.

A delivery that has lost its worker a few times is taken apart, so that each of its events stands by itself; of those
at most one runs at a time in a process. One during whose runs workers went on dying ends as a dead letter.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from redis.asyncio import Redis

from spokes.audit.alert_episodes import AlertEpisodes
from spokes.core.delivery import Delivery
from spokes.core.redis import keys
from spokes.core.telemetry.alerts import Alert

SUSPECT_FROM_TRY: Final = 4  # runs that neither ended nor were handed back before: their workers were killed
_MAX_CRASHES: Final = 2  # of workers, while an event ran alone
_CRASH_COUNT_TTL_S: Final = 86_400


class CrashLoopGuard:
    """The suspects of one worker process."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def isolate(self, delivery: Delivery) -> AsyncIterator[bool]:
        """Run a delivery of one event beside no other suspect; yield whether it has killed enough."""
        entry = delivery.entries[0]
        name = keys.crash_count(delivery.portal_id, entry.key)
        async with self._lock:
            deaths = await self._redis.incr(name) - 1  # written before the run, for who dies writes nothing after it
            await self._redis.expire(name, _CRASH_COUNT_TTL_S)
            killer = deaths >= _MAX_CRASHES
            if killer:
                await AlertEpisodes(self._redis).report_once(
                    Alert.CRASH_LOOP, portal_id=delivery.portal_id, event_type=entry.event.type, event_key=entry.key
                )
            try:
                yield killer
            finally:
                await self._redis.delete(name)

    async def settled_keys(self, delivery: Delivery) -> set[str]:
        """Return the keys of those events that need no more work."""
        name = keys.settled_events(delivery.portal_id, delivery.id)
        return {key.decode() for key in await self._redis.smembers(name)}  # type: ignore[misc]  # redis-py types one class for sync and async
