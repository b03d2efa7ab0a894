"""`LeaderLock`: one leader among several processes, by a lease in Redis.

It only avoids duplicate work. Two processes can both believe they lead for a moment; the SQL store prevents duplicates.
"""

import secrets
import time
from typing import Final

from redis.asyncio import Redis

_LEASE_MS: Final = 3000  # a killed leader is replaced after this time


class LeaderLock:
    """A named lease that one process holds for as long as it calls `is_leader` often enough."""

    def __init__(self, redis: Redis, name: str) -> None:
        self._redis = redis
        self._name = name
        self._token = secrets.token_hex(8).encode()
        self._valid_until = 0.0  # monotonic; until then the lease is ours without asking Redis

    async def is_leader(self) -> bool:
        """Acquire or renew the lease; return False while another process holds it."""
        if time.monotonic() < self._valid_until:
            return True
        called_at = time.monotonic()
        if not await self._redis.set(self._name, self._token, nx=True, px=_LEASE_MS):
            if await self._redis.get(self._name) != self._token:
                return False
            await self._redis.pexpire(self._name, _LEASE_MS)
        self._valid_until = called_at + _LEASE_MS / 3000
        return True

    async def release(self) -> None:
        """Release the lease, so that another process need not wait until it expires."""
        self._valid_until = 0.0
        if await self._redis.get(self._name) == self._token:
            await self._redis.delete(self._name)
