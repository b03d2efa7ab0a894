"""Who may knock: https, addresses, and how often an address may fail. Rule: verified traffic is never slowed.

Forwarded headers are believed only behind a declared proxy, and only what that proxy itself wrote.
"""

import time
from collections.abc import Mapping
from typing import Final

_WINDOW_S: Final = 60
_MOST_ADDRESSES: Final = 10_000  # counted at a time; beyond it, a flood from many addresses shares one count
_OTHERS: Final = "others"


class FailureLimit:
    """Failed signatures by address, over all web processes.

    Each process counts for itself and shares its counts every second, so a flood of forged requests costs Redis one
    call a second and not one a request.
    """

    def __init__(self, limit: int) -> None:
        """Allow `limit` failures per address and minute."""
        self._limit = limit
        self._window = 0
        self._ours: dict[str, int] = {}  # failures seen here and not shared yet
        self._known: dict[str, int] = {}  # failures of all processes, as of the last sharing

    def failed(self, address: str, now_s: float | None = None) -> bool:
        """Count a failed signature; return whether the address has failed too often in this minute."""
        window = int(time.time() if now_s is None else now_s) // _WINDOW_S
        if window != self._window:
            self._window, self._ours, self._known = window, {}, {}
        name = address if address in self._ours or len(self._ours) < _MOST_ADDRESSES else _OTHERS
        self._ours[name] = self._ours.get(name, 0) + 1
        return self._ours[name] + self._known.get(name, 0) > self._limit

    def take(self) -> dict[str, int]:
        """Return the failures that are to be shared, and count them as shared."""
        ours, self._ours = self._ours, {}
        return ours

    def learn(self, totals: Mapping[str, int]) -> None:
        """Take note of what all processes have counted."""
        self._known.update(totals)

    @property
    def window(self) -> int:
        """The minute that is being counted."""
        return self._window
