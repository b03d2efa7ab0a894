"""HubSpot's limits on calls, counted exactly: a call counts when it arrives, unless it is refused.

Source: HubSpot's docs "API usage guidelines". `LimitCounts` keeps exact totals and peaks for tests.
"""

from collections import deque
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum, unique
from typing import Final
from zoneinfo import ZoneInfo

from spokes.simulator.clock import Clock
from spokes.simulator.config import TEN_SECONDS_MS, Limits
from spokes.simulator.errors import JsonObject


class RollingWindow:
    """Counts the calls of the last `window_s` seconds; a call exactly `window_s` ago no longer counts."""

    def __init__(self, window_s: float) -> None:
        self.window_s = window_s
        self.peak = 0  # the most calls in any one window
        self._times_s: deque[float] = deque()

    def count(self, now_s: float) -> int:
        """Return the number of calls in the window that ends at `now_s`."""
        oldest = now_s - self.window_s
        while self._times_s and self._times_s[0] <= oldest:
            self._times_s.popleft()
        return len(self._times_s)

    def add(self, now_s: float) -> int:
        """Add a call, and return the number of calls in the window."""
        self._times_s.append(now_s)
        current = self.count(now_s)
        self.peak = max(self.peak, current)
        return current

    def free_in_s(self, now_s: float) -> float:
        """Return the seconds until the oldest call leaves the window."""
        return self._times_s[0] + self.window_s - now_s if self._times_s else 0.0


@unique
class Meter(StrEnum):
    """The limit a call counts against."""

    ORDINARY = "ordinary"
    SEARCH = "search"
    ASSOCIATIONS = "associations"
    UNMETERED = "unmetered"


@unique
class Policy(StrEnum):
    """HubSpot's names for its limits, as in the bodies of 429 responses."""

    DAILY = "DAILY"
    SECONDLY = "SECONDLY"
    TEN_SECONDLY_ROLLING = "TEN_SECONDLY_ROLLING"


@dataclass(slots=True)
class MeterCounts:
    """The calls of one meter: arrived, refused with 429, and the most arrived and accepted in any one window."""

    arrived: int = 0
    refused: int = 0
    peak_arrived: int = 0
    peak_accepted: int = 0


@dataclass(slots=True)
class LimitCounts:
    """The counts of all meters, and of refused calls by limit."""

    meters: dict[Meter, MeterCounts] = field(default_factory=lambda: {meter: MeterCounts() for meter in Meter})
    refused_by_policy: dict[Policy, int] = field(default_factory=lambda: dict.fromkeys(Policy, 0))

    @property
    def refused(self) -> int:
        """The number of calls refused with 429."""
        return sum(self.refused_by_policy.values())

    def as_json(self) -> JsonObject:
        """The counts as JSON for the control endpoints."""
        meters = {str(meter): asdict(truth) for meter, truth in self.meters.items()}
        return {"meters": meters, "refused_by_policy": dict(self.refused_by_policy), "refused": self.refused}


_WINDOW_S: Final = {Meter.ORDINARY: TEN_SECONDS_MS / 1000, Meter.SEARCH: 1.0, Meter.ASSOCIATIONS: TEN_SECONDS_MS / 1000}


class RateLimiter:
    """The limits of one portal. `limits` may be replaced while it runs."""

    def __init__(self, limits: Limits, clock: Clock, time_zone: str) -> None:
        self.limits = limits
        self._clock = clock
        self._zone = ZoneInfo(time_zone)
        self.reset()

    def reset(self) -> None:
        """Reset all counts."""
        self.counts = LimitCounts()
        self._accepted_windows = {meter: RollingWindow(window_s) for meter, window_s in _WINDOW_S.items()}
        self._arrived_windows = {meter: RollingWindow(window_s) for meter, window_s in _WINDOW_S.items()}
        self._calls_today = dict.fromkeys(Meter, 0)
        self._midnight_ms = 0

    def count_call(self, meter: Meter) -> Policy | None:
        """Count one call; return the limit that refuses it, or None if it is allowed."""
        if meter is Meter.UNMETERED:
            return None
        now_s = self._clock.monotonic_s()
        self._start_new_day()
        truth = self.counts.meters[meter]
        truth.arrived += 1
        self._arrived_windows[meter].add(now_s)
        truth.peak_arrived = self._arrived_windows[meter].peak
        refusal = self._refusing_policy(meter, now_s)
        if refusal is None:
            self._accepted_windows[meter].add(now_s)
            truth.peak_accepted = self._accepted_windows[meter].peak
            self._calls_today[meter] += 1
        else:
            truth.refused += 1
            self.counts.refused_by_policy[refusal] += 1
        return refusal

    def used_today(self) -> int:
        """The calls of today that count against the ordinary daily limit."""
        return self._calls_today[Meter.ORDINARY] + self._calls_today[Meter.SEARCH]

    def resets_at_ms(self) -> int:
        """The next midnight in the portal's time zone."""
        self._start_new_day()
        return self._midnight_ms

    def headers(self, meter: Meter, *, has_daily: bool = True) -> dict[str, str]:
        """The rate limit headers of a response; search responses have none, OAuth tokens get none of the day."""
        if meter in {Meter.SEARCH, Meter.UNMETERED}:
            return {}
        window_limit, daily_limit = self._window_limit(meter), self._daily_limit(meter)
        remaining = max(0, window_limit - self._accepted_windows[meter].count(self._clock.monotonic_s()))
        used_today = self.used_today() if meter is Meter.ORDINARY else self._calls_today[meter]
        daily = {
            "X-HubSpot-RateLimit-Daily": str(daily_limit),
            "X-HubSpot-RateLimit-Daily-Remaining": str(max(0, daily_limit - used_today)),
        }
        return {
            **(daily if has_daily else {}),
            "X-HubSpot-RateLimit-Max": str(window_limit),
            "X-HubSpot-RateLimit-Remaining": str(remaining),
            "X-HubSpot-RateLimit-Interval-Milliseconds": str(TEN_SECONDS_MS),
            "X-HubSpot-RateLimit-Secondly": str(window_limit // 10),
            "X-HubSpot-RateLimit-Secondly-Remaining": str(min(remaining, window_limit // 10)),
        }

    def refusal_headers(self, meter: Meter, policy: Policy, *, has_daily: bool = True) -> dict[str, str]:
        """The headers of a 429: the rate limit headers, and Retry-After in whole seconds if the portal sends it."""
        headers = self.headers(meter, has_daily=has_daily)
        if self.limits.retry_after and policy is not Policy.DAILY:
            wait_s = self._accepted_windows[meter].free_in_s(self._clock.monotonic_s())
            headers["Retry-After"] = str(max(1, round(wait_s + 0.5)))
        return headers

    def _refusing_policy(self, meter: Meter, now_s: float) -> Policy | None:
        used_today = self._calls_today[meter] if meter is Meter.ASSOCIATIONS else self.used_today()
        if used_today >= self._daily_limit(meter):
            return Policy.DAILY
        if self._accepted_windows[meter].count(now_s) >= self._window_limit(meter):
            return Policy.SECONDLY if meter is Meter.SEARCH else Policy.TEN_SECONDLY_ROLLING
        return None

    def _window_limit(self, meter: Meter) -> int:
        if meter is Meter.SEARCH:
            return self.limits.search_secondly
        return self.limits.associations_ten_secondly if meter is Meter.ASSOCIATIONS else self.limits.ten_secondly

    def _daily_limit(self, meter: Meter) -> int:
        return self.limits.associations_daily if meter is Meter.ASSOCIATIONS else self.limits.daily

    def _start_new_day(self) -> None:
        now_ms = self._clock.now_ms()
        if now_ms < self._midnight_ms:
            return
        tomorrow = datetime.fromtimestamp(now_ms / 1000, self._zone) + timedelta(days=1)
        midnight = tomorrow.replace(hour=0, minute=0, second=0, microsecond=0)
        self._midnight_ms = round(midnight.timestamp() * 1000)
        self._calls_today = dict.fromkeys(Meter, 0)


def rate_limit_body(policy: Policy, correlation_id: str) -> JsonObject:
    """The body of a 429."""
    return {
        "status": "error",
        "message": f"You have reached your {policy.lower()} limit.",
        "errorType": "RATE_LIMIT",
        "correlationId": correlation_id,
        "policyName": str(policy),
        "groupName": f"publicapi:private-apps:{policy.lower()}",
        "category": "RATE_LIMITS",
    }
