"""Who may knock: https, addresses, and how often an address may fail. Rule: verified traffic is never slowed.

Forwarded headers are believed only behind a declared proxy, and only what that proxy itself wrote.
"""

import time
from collections.abc import Mapping
from typing import Final

_WINDOW_S: Final = 60
_MAX_ADDRESSES: Final = 10_000  # counted at a time; beyond it, a flood from many addresses shares one count
_OTHER_ADDRESSES: Final = "others"


class FailureLimit:
    """Failed signatures by address, over all web processes.

    Each process counts for itself and shares its counts every second, so a flood of forged requests costs Redis one
    call a second and not one a request.
    """

    def __init__(self, limit: int) -> None:
        """Allow `limit` failures per address and minute."""
        self._limit = limit
        self._window = 0
        self._unshared: dict[str, int] = {}  # failures seen here and not shared yet
        self._totals: dict[str, int] = {}  # failures of all processes, as of the last sharing

    def record_failure(self, address: str, now_s: float | None = None) -> bool:
        """Count a failed signature; return whether the address has failed too often in this minute."""
        window = int(time.time() if now_s is None else now_s) // _WINDOW_S
        if window != self._window:
            self._window, self._unshared, self._totals = window, {}, {}
        name = address if address in self._unshared or len(self._unshared) < _MAX_ADDRESSES else _OTHER_ADDRESSES
        self._unshared[name] = self._unshared.get(name, 0) + 1
        return self._unshared[name] + self._totals.get(name, 0) > self._limit

    def drain(self) -> dict[str, int]:
        """Return the failures that are to be shared, and count them as shared."""
        ours, self._unshared = self._unshared, {}
        return ours

    def merge_totals(self, totals: Mapping[str, int]) -> None:
        """Take note of what all processes have counted."""
        self._totals.update(totals)

    @property
    def window(self) -> int:
        """The minute that is being counted."""
        return self._window
