"""A slot of the rate budget while its call is made: how long that takes, and the limits that its response reports."""

import time
from collections.abc import Mapping
from typing import Final

from spokes.core.json_reading.json_fields import read_integer

_LOW_DAY_SHARE: Final = 0.1  # below this share of the daily limit, the end of the day matters


class Slot:
    """Permission for one call."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._granted_at = time.monotonic()
        self.made_call = True
        self.was_refused = False  # for a limit: HubSpot counts otherwise than we do
        self.reported_limit: int | None = None
        self.reported_day_left: int | None = None
        self.reported_day_limit: int | None = None
        self.is_day_short = False

    def read_headers(self, headers: Mapping[str, str]) -> None:
        """Read the limits that a response reports; header names in lower case."""
        limit = read_integer(headers.get("x-hubspot-ratelimit-max"))
        interval = headers.get("x-hubspot-ratelimit-interval-milliseconds", "")
        if limit is not None and limit > 0 and interval in {"", str(round(self._window_s * 1000))}:
            self.reported_limit = limit
        daily = read_integer(headers.get("x-hubspot-ratelimit-daily"))
        left = read_integer(headers.get("x-hubspot-ratelimit-daily-remaining"))
        if daily is not None and left is not None and min(daily, left) >= 0:
            self.reported_day_left, self.reported_day_limit = left, daily
            self.is_day_short = left < daily * _LOW_DAY_SHARE

    def round_trip_s(self) -> float:
        """Return the seconds since the grant, 0 if HubSpot refused the call for a limit: slots then come back later."""
        return 0.0 if self.was_refused else time.monotonic() - self._granted_at

    def release_unused(self) -> None:
        """Release the slot at once when the block ends, because no call was made."""
        self.made_call = False
