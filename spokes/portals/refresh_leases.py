"""Which process refreshes a portal's tokens now, and when refreshes wait: for all processes, in Redis.

The lease avoids double refreshes. That no answer overwrites a newer one is held by `PortalStore.replace_tokens`, also
when a lease has expired under a process that was stopped.
"""

import asyncio
import math
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, NamedTuple, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.core.errors import CRMUnavailable
from spokes.core.redis import keys
from spokes.core.redis.leader_lock import acquire_lease
from spokes.core.redis.scripts import read_script

_LEASE_MS: Final = 6_000
_RENEW_EVERY_S: Final = 2.0
_REQUEST_S: Final = 30 * 86_400  # for which an unanswered request is remembered
_SCRIPT: Final = read_script(__file__, "begin_refresh.lua")


class RefreshTurn(NamedTuple):
    """Whether a refresh may begin; otherwise how long it waits, and why: `app`, `portal`, `held` or `rate`."""

    is_granted: bool
    wait_s: float = 0.0
    reason: str = ""


class RefreshLeases:
    """The leases and backoffs of refreshes.

    Every method raises CRMUnavailable if Redis does not answer.
    """

    def __init__(self, redis: Redis, *, refreshes_per_s: int) -> None:
        """Let all processes together begin at most `refreshes_per_s`."""
        self._redis = redis
        self._limit = refreshes_per_s
        self._holder = secrets.token_hex(8)
        self._script = redis.register_script(_SCRIPT)

    async def begin(self, portal_id: int) -> RefreshTurn:
        """Acquire the lease of a portal, unless a refresh must wait."""
        lease, backoff = keys.refresh_lease(portal_id), keys.refresh_backoff(portal_id)
        try:
            answer = await self._script(
                keys=[lease, backoff, keys.APP_BACKOFF, keys.REFRESHES], args=[self._holder, _LEASE_MS, self._limit]
            )
        except (RedisError, OSError, TimeoutError):
            raise CRMUnavailable from None
        if answer[0]:
            return RefreshTurn(is_granted=True)
        return RefreshTurn(is_granted=False, wait_s=int(answer[1]) / 1000, reason=cast("bytes", answer[2]).decode())

    @asynccontextmanager
    async def held(self, portal_id: int) -> AsyncIterator[None]:
        """Renew an acquired lease inside the block, and release it at the end."""
        lease = keys.refresh_lease(portal_id)
        renewal = asyncio.create_task(self._renew(lease))
        try:
            yield
        finally:
            renewal.cancel()
            with suppress(RedisError, OSError, TimeoutError):  # it expires
                if await self._redis.get(lease) == self._holder.encode():
                    await self._redis.delete(lease)

    async def note_request(self, portal_id: int, generation: int) -> bool:
        """Note that HubSpot is asked for new tokens; return whether an earlier request of this generation is open.

        Such a request had no answer, or its process ended before the new tokens were stored.
        """
        try:
            earlier = await self._redis.set(keys.refresh_request(portal_id), generation, ex=_REQUEST_S, get=True)
        except (RedisError, OSError, TimeoutError):
            raise CRMUnavailable from None
        return bool(earlier == str(generation).encode())

    async def end_request(self, portal_id: int) -> None:
        """Note that the last request is closed: its tokens are stored, or HubSpot issued none."""
        with suppress(RedisError, OSError, TimeoutError):  # after new tokens, its generation is over
            await self._redis.delete(keys.refresh_request(portal_id))

    async def back_off_portal(self, portal_id: int, seconds: float) -> None:
        """Begin no refresh of the portal for `seconds`."""
        await self._back_off(keys.refresh_backoff(portal_id), seconds)

    async def back_off_app(self, seconds: float) -> None:
        """Begin no refresh of any portal for `seconds`."""
        await self._back_off(keys.APP_BACKOFF, seconds)

    async def begin_app_backoff(self, seconds: float) -> float:
        """Begin no refresh of any portal for `seconds`, unless they wait already; return the seconds that are left.

        Refreshes that were in flight together are refused together: only the first refusal begins a wait.
        """
        try:
            is_begun = await self._redis.set(keys.APP_BACKOFF, 1, px=_milliseconds(seconds), nx=True)
            return seconds if is_begun else max(0.0, await self._redis.pttl(keys.APP_BACKOFF) / 1000)
        except (RedisError, OSError, TimeoutError):
            raise CRMUnavailable from None

    async def _back_off(self, key: str, seconds: float) -> None:
        try:
            await self._redis.set(key, 1, px=_milliseconds(seconds))
        except (RedisError, OSError, TimeoutError):
            raise CRMUnavailable from None

    async def _renew(self, lease: str) -> None:
        while True:
            await asyncio.sleep(_RENEW_EVERY_S)
            with suppress(RedisError, OSError, TimeoutError):
                await acquire_lease(self._redis, lease, self._holder, lease_ms=_LEASE_MS)


def _milliseconds(seconds: float) -> int:
    return max(1, math.ceil(seconds * 1000))
