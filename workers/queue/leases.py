"""Renew the leases of this worker's jobs and lanes.

Leases last seconds, so a dead worker's jobs soon run elsewhere. Under stock arq they would wait for the job time-out.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, Self

from redis.asyncio import Redis

from spokes.core.events import Event
from spokes.core.redis import keys
from spokes.core.redis.scripts import FALSE_LEASE, read_script

RENEW_EVERY_S: Final = 2.0
RENEW_TIMEOUT_S: Final = 2.0  # for one call, with the wait for a connection: a stalled one must not use up the lease
_SCRIPT: Final = FALSE_LEASE + read_script(__file__, "renew_leases.lua")
_MAX_LEASES_PER_CALL: Final = 500


class Lease(NamedTuple):
    """A key, the value it has while it is ours, and whether it may be reacquired after it lapsed.

    A job's may: another worker that has run it since has either closed it or holds its lease. An object's lane may not:
    another worker may have held it and released it, and the newest timestamps that we read are outdated.
    """

    key: str
    value: str
    may_reacquire: bool = False


def lane_key(event: Event, entry_key: str) -> str:
    """Return the lane of an event's object; an event without an object has a lane of its own."""
    return keys.lane(event.portal_id, event.object_type, event.survivor_id or entry_key)


class LeaseRenewal:
    """Renews all current leases of a process; `renewed_at` is when it last began to, and did, in monotonic seconds."""

    def __init__(
        self,
        redis: Redis,
        leases: Callable[[], Iterable[Lease]],
        lease_ms: int,
        on_renewed: Callable[[Lease, float], None],
    ) -> None:
        """Renew leases in `redis`.

        Args:
            redis: where the leases are.
            leases: returns the current ones.
            lease_ms: their new duration.
            on_renewed: called with each lease that is ours, and its end in seconds of the monotonic clock.
        """
        self._script = redis.register_script(_SCRIPT)
        self.leases = leases
        self._lease_ms = lease_ms
        self._on_renewed = on_renewed
        self.renewed_at = time.monotonic()

    def over(self, redis: Redis, leases: Callable[[], Iterable[Lease]]) -> Self:
        """Return the renewal of other leases over another client."""
        return type(self)(redis, leases, self._lease_ms, self._on_renewed)

    async def renew(self) -> None:
        """Renew the leases once; the caller repeats it every RENEW_EVERY_S.

        Raises:
            RedisError, OSError: Redis does not answer in time; leases that are not renewed in time lapse.
        """
        began_at, due = time.monotonic(), list(self.leases())
        for start in range(0, len(due), _MAX_LEASES_PER_CALL):
            group, until = due[start : start + _MAX_LEASES_PER_CALL], time.monotonic() + self._lease_ms / 1000
            args = [arg for key, value, may_reacquire in group for arg in (key, value, int(may_reacquire))]
            async with asyncio.timeout(RENEW_TIMEOUT_S):
                ours = await self._script(args=[self._lease_ms, *args])
            for lease, is_ours in zip(group, ours, strict=True):
                if is_ours:
                    self._on_renewed(lease, until)
        self.renewed_at = began_at
