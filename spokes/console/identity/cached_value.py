"""A fetched value, cached for a limited time: at most one fetch in flight, with a minimum interval."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from spokes.console.identity.http_client import provider_unavailable
from spokes.core.errors import HttpProblem

MIN_INTERVAL_S: Final = 30.0  # between two fetches, even if clients keep sending unknown key ids
_RETRY_AFTER_FAILURE_S: Final = 5.0
_MAX_AGE_S: Final = 3600.0  # an older copy is not used even if the fetch fails
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Copy(Generic[T]):
    value: T
    fetched_at: float


class CachedValue(Generic[T]):
    """The result of `fetch`, cached for `fresh_s` seconds; `clock` returns seconds."""

    def __init__(
        self, fetch: Callable[[], Awaitable[T]], *, fresh_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch = fetch
        self._fresh_s = fresh_s
        self._clock = clock
        self._copy: _Copy[T] | None = None
        self._next_fetch_at = clock()
        self._lock = asyncio.Lock()

    async def get(self, *, other_than: T | None = None) -> T:
        """Return the value; fetch it if it is old or is `other_than`, but not before the minimum interval has passed.

        Raises:
            HttpProblem: 503, the fetch failed and the cached copy is too old.
        """
        async with self._lock:
            copy, now = self._copy, self._clock()
            if copy is not None and now - copy.fetched_at < self._fresh_s and copy.value is not other_than:
                return copy.value
            if now >= self._next_fetch_at:
                self._next_fetch_at = now + _RETRY_AFTER_FAILURE_S
                try:
                    copy = self._copy = _Copy(await self._fetch(), now)
                    self._next_fetch_at = now + MIN_INTERVAL_S
                except HttpProblem:
                    pass  # the cached copy may still be used
            if copy is None or now - copy.fetched_at > _MAX_AGE_S:
                raise provider_unavailable()
            return copy.value
