"""How often an address may fail signature verification within a minute. Requests that verify are never limited."""

import time
from collections.abc import Mapping
from typing import Final

_WINDOW_S: Final = 60
_MAX_ADDRESSES: Final = 10_000  # counted at a time; beyond it, a flood from many addresses shares one count
_OTHER_ADDRESSES: Final = "others"


class FailureLimit:
    """Counts failed signatures by address, over all web processes.

    Each process counts by itself and exchanges counts with the others every second, so that a flood of forged requests
    costs Redis one call a second and not one per request.
    """

    def __init__(self, limit: int) -> None:
        """Allow `limit` failures per address and minute."""
        self._limit = limit
        self._window = 0
        self._unshared: dict[str, int] = {}  # failures counted here and not sent to Redis yet
        self._totals: dict[str, int] = {}  # failures counted by all processes, as of the last exchange

    def record_failure(self, address: str, now_s: float | None = None) -> bool:
        """Count a failed signature; return whether the address has exceeded the limit in this minute."""
        window = int(time.time() if now_s is None else now_s) // _WINDOW_S
        if window != self._window:
            self._window, self._unshared, self._totals = window, {}, {}
        name = address if address in self._unshared or len(self._unshared) < _MAX_ADDRESSES else _OTHER_ADDRESSES
        self._unshared[name] = self._unshared.get(name, 0) + 1
        return self._unshared[name] + self._totals.get(name, 0) > self._limit

    def drain(self) -> dict[str, int]:
        """Return the counts that were not shared yet, and start over from zero."""
        unshared, self._unshared = self._unshared, {}
        return unshared

    def merge_totals(self, totals: Mapping[str, int]) -> None:
        """Store the counts of all processes."""
        self._totals.update(totals)

    @property
    def window(self) -> int:
        """The minute being counted, in minutes since the epoch."""
        return self._window
