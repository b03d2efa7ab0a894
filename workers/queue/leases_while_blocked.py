"""Renew this worker's leases from a thread while a handler blocks the event loop, which renews them otherwise.

Without it, another worker would claim the deliveries after seven seconds and run the same handlers a second time. The
watchdog ends a worker that stays blocked, and its leases lapse with it. Code in C that keeps the interpreter lock stops
this thread too.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

import structlog
from redis.exceptions import RedisError

from spokes.core.redis.connections import redis_client
from spokes.core.settings import Settings
from workers.queue.leases import RENEW_EVERY_S, Lease, LeaseRenewal

_TIMEOUT_S: Final = 2.0  # for a connection and for a response; leases last 7 s
_SNAPSHOT_TRIES: Final = 5
log = structlog.get_logger()


class LeasesWhileBlocked:
    """A thread that renews leases every RENEW_EVERY_S while the event loop is blocked; it runs while entered."""

    def __init__(
        self,
        settings: Settings,
        leases: Callable[[], Iterable[Lease]],
        lease_ms: int,
        on_renewed: Callable[[Lease, float], None],
        *,
        is_blocked: Callable[[], bool],
        every_s: float = RENEW_EVERY_S,
    ) -> None:
        """Renew leases over connections of its own: those of the worker belong to the blocked loop.

        Args:
            settings: name the Redis.
            leases: returns the current ones; called in this thread, as is `on_renewed`.
            lease_ms: their new duration.
            on_renewed: as LeaseRenewal's.
            is_blocked: whether the event loop is blocked now.
            every_s: seconds between two renewals.
        """
        self._settings = settings
        self._leases = leases
        self._lease_ms = lease_ms
        self._on_renewed = on_renewed
        self._is_blocked = is_blocked
        self._every_s = every_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases while blocked", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            if not self._is_blocked():
                continue
            try:
                asyncio.run(self._renew())
            except Exception:  # the next renewal may succeed; otherwise the leases lapse
                log.warning("leases_not_renewed_while_blocked", exc_info=True)

    async def _renew(self) -> None:
        redis = redis_client(self._settings, max_connections=1, timeout_s=_TIMEOUT_S)
        try:
            with suppress(RedisError, OSError):
                await LeaseRenewal(redis, self._held, self._lease_ms, self._on_renewed).renew()
        finally:
            await redis.aclose()

    def _held(self) -> list[Lease]:
        """Return the leases, none of which is reacquired: the loop may have released it since."""
        for _ in range(_SNAPSHOT_TRIES):
            # The loop is free again, and changes the collections that are read here.
            with suppress(RuntimeError):
                return [lease._replace(may_reacquire=False) for lease in self._leases()]
        return []
