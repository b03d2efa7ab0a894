"""Renew this worker's leases from a thread whenever the event loop, which renews them otherwise, is late.

The loop is late while a handler blocks it, while its call waits for a connection or on a stalled one, and while it
waits out an outage. Without the thread, another worker would claim the deliveries after seven seconds and run the same
handlers a second time. The watchdog ends a worker that stays blocked, and its leases lapse with it. Code in C that
keeps the interpreter lock stops this thread too.
"""

import asyncio
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

import structlog
from redis.exceptions import RedisError

from spokes.core.redis.connections import redis_client
from spokes.core.settings import Settings
from workers.queue.leases import RENEW_EVERY_S, RENEW_TIMEOUT_S, Lease, LeaseRenewal

_CHECK_EVERY_S: Final = 0.5
_LATE_S: Final = RENEW_EVERY_S + 1.0  # since the last renewal; leases last 7 s
_SNAPSHOT_TRIES: Final = 5
log = structlog.get_logger()


class LeaseThread:
    """A thread that renews leases which the event loop has not renewed for `late_s`; it runs while entered."""

    def __init__(
        self,
        settings: Settings,
        renewal: LeaseRenewal,
        *,
        late_s: float = _LATE_S,
        check_every_s: float = _CHECK_EVERY_S,
    ) -> None:
        """Renew leases over connections of its own: those of the worker belong to the loop.

        Args:
            settings: name the Redis.
            renewal: the event loop's. This thread reads its leases, and when it last renewed them.
            late_s: seconds after which a further renewal is late.
            check_every_s: seconds between two looks at that time.
        """
        self._settings = settings
        self._by_loop = renewal
        self._late_s = late_s
        self._check_every_s = check_every_s
        self._renewed_at = 0.0  # by this thread, in monotonic seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._check_every_s):
            if time.monotonic() - max(self._by_loop.renewed_at, self._renewed_at) < self._late_s:
                continue
            try:
                asyncio.run(self._renew())
            except Exception:  # the next renewal may succeed; otherwise the leases lapse
                log.warning("leases_not_renewed", exc_info=True)

    async def _renew(self) -> None:
        redis = redis_client(self._settings, max_connections=1, timeout_s=RENEW_TIMEOUT_S)
        try:
            renewal = self._by_loop.over(redis, self._held)
            with suppress(RedisError, OSError):
                await renewal.renew()
                self._renewed_at = renewal.renewed_at
        finally:
            await redis.aclose()

    def _held(self) -> list[Lease]:
        """Return the leases as such that are not reacquired: the loop may have released it since."""
        for _ in range(_SNAPSHOT_TRIES):
            # The loop runs beside this thread, and changes the collections that are read here.
            with suppress(RuntimeError):
                return [lease._replace(may_reacquire=False) for lease in self._by_loop.leases()]
        return []
