"""`LeaderLock`: one leader among several processes, by a lease in Redis.

It only avoids duplicate work. Two processes can both believe they lead for a moment; the SQL store prevents duplicates.
"""

import secrets
import time
from typing import Final

from redis.asyncio import Redis

from spokes.core.redis.scripts import FALSE_LEASE, read_script

_LEASE_MS: Final = 3000  # a killed leader is replaced after this time
_SCRIPT: Final = FALSE_LEASE + read_script(__file__, "lease.lua")


async def acquire_lease(redis: Redis, name: str, token: str, *, lease_ms: int) -> bool:
    """Acquire or renew a lease, also in a Redis without memory; return False while another token holds it.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    return bool(await redis.eval(_SCRIPT, 1, name, token, str(lease_ms)))  # type: ignore[misc]  # redis-py types one class for sync and async


class LeaderLock:
    """A named lease that one process holds for as long as it calls `is_leader` often enough."""

    def __init__(self, redis: Redis, name: str, *, lease_ms: int = _LEASE_MS) -> None:
        self.token = secrets.token_hex(8)
        self._redis = redis
        self._name = name
        self._lease_ms = lease_ms
        self._valid_until = 0.0  # monotonic; until then the lease is ours without asking Redis

    async def is_leader(self) -> bool:
        """Acquire or renew the lease; return False while another process holds it."""
        if time.monotonic() < self._valid_until:
            return True
        called_at = time.monotonic()
        if not await acquire_lease(self._redis, self._name, self.token, lease_ms=self._lease_ms):
            return False
        self._valid_until = called_at + self._lease_ms / 3000
        return True

    def doubt(self) -> None:
        """Ask Redis the next time whether the lease is still ours."""
        self._valid_until = 0.0

    async def release(self) -> None:
        """Release the lease, so that another process need not wait until it expires."""
        self._valid_until = 0.0
        if await self._redis.get(self._name) == self.token.encode():
            await self._redis.delete(self._name)
