"""Elect one process among many, by a lease in Redis. Rule: it saves work; SQL fences what must not happen twice."""

import secrets
import time
from typing import Final

from redis.asyncio import Redis

_LEASE_MS: Final = 3000  # how long a killed holder is waited for


class LeaderLock:
    """A name that one process holds at a time, for as long as it keeps asking."""

    def __init__(self, redis: Redis, name: str) -> None:
        self._redis = redis
        self._name = name
        self._token = secrets.token_hex(8).encode()
        self._valid_until = 0.0  # by the monotonic clock; before it, asking Redis again is not needed

    async def is_leader(self) -> bool:
        """Take or keep the lease; False while another process holds it."""
        if time.monotonic() < self._valid_until:
            return True
        asked_at = time.monotonic()
        if not await self._redis.set(self._name, self._token, nx=True, px=_LEASE_MS):
            if await self._redis.get(self._name) != self._token:
                return False
            await self._redis.pexpire(self._name, _LEASE_MS)
        self._valid_until = asked_at + _LEASE_MS / 3000
        return True

    async def release(self) -> None:
        """Give the lease up, so that another need not wait for its end."""
        self._valid_until = 0.0
        if await self._redis.get(self._name) == self._token:
            await self._redis.delete(self._name)
