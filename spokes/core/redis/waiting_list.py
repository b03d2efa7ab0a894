"""Payloads on their way to the SQL store: a Redis list, for processes that do not open that store.

Any process adds; a worker reads the oldest, stores what they say, and removes them. A payload may be read twice.
"""

from collections.abc import Iterable
from typing import Final, cast

from redis.asyncio import Redis

_MAX_READ: Final = 500


class WaitingList:
    """The list at one key. Every method raises RedisError or OSError if Redis does not answer."""

    def __init__(self, redis: Redis, key: str) -> None:
        self._redis = redis
        self._key = key

    async def add(self, payloads: Iterable[bytes]) -> None:
        """Add payloads behind the others, in their order."""
        if values := [*payloads]:
            await self._redis.rpush(self._key, *values)  # type: ignore[misc]  # redis-py types one class for sync and async

    async def oldest(self) -> list[bytes]:
        """Return the oldest payloads, the oldest one first."""
        return cast("list[bytes]", await self._redis.lrange(self._key, 0, _MAX_READ - 1))  # type: ignore[misc]  # as above

    async def remove(self, count: int) -> None:
        """Remove the oldest payloads, which are stored now."""
        await self._redis.ltrim(self._key, count, -1)  # type: ignore[misc]  # as above
