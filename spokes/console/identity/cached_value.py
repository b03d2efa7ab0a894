"""Something that is fetched and kept for a while. Rule: one fetch at a time, and no more of them than a little."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from spokes.console.identity.http_client import unavailable
from spokes.core.errors import Problem

BETWEEN_S: Final = 30.0  # from one fetch to the next, whatever strangers ask for
_AFTER_FAILURE_S: Final = 5.0
_LONGEST_S: Final = 3600.0  # so old it may be when no newer one can be had
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Copy(Generic[T]):
    value: T
    at: float


class Kept(Generic[T]):
    """What `fetch` returns, for `fresh_s` seconds; `clock` tells seconds."""

    def __init__(
        self, fetch: Callable[[], Awaitable[T]], *, fresh_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch = fetch
        self._fresh_s = fresh_s
        self._clock = clock
        self._copy: _Copy[T] | None = None
        self._next = clock()  # when another fetch may begin
        self._one = asyncio.Lock()

    async def get(self, *, newer_than: T | None = None) -> T:
        """Return it; where that is `newer_than`, fetch it anew if it is time.

        Raises:
            Problem: 503, it cannot be had, and what we have is too old.
        """
        async with self._one:
            copy, now = self._copy, self._clock()
            if copy is not None and now - copy.at < self._fresh_s and copy.value is not newer_than:
                return copy.value
            if now >= self._next:
                self._next = now + _AFTER_FAILURE_S
                try:
                    copy = self._copy = _Copy(await self._fetch(), now)
                    self._next = now + BETWEEN_S
                except Problem:
                    pass  # what we have may still do
            if copy is None or now - copy.at > _LONGEST_S:
                raise unavailable()
            return copy.value
