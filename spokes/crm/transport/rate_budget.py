"""One rate budget for all worker processes, kept in Redis, for each portal. Rule: no call without a place in it.

A place is taken before the call and comes back one window after the call has ended, so no latency can make HubSpot
count more calls than it allows (see rate_budget.lua). Facts: HubSpot's docs, "API usage guidelines and limits".

A place in the budget, held for one call, and who may hold how many. Rule: nothing here asks Redis.

Source: HubSpot's docs, "API usage guidelines and limits" (headers).

What a failed call means for all others. Rule: pure, and HubSpot's own wait wins over ours.

Source: HubSpot's docs, "API usage guidelines and limits" and "Error handling".

Whose calls go first. Rule: pure; work that somebody waits for comes before work that came in bulk.
"""

import asyncio
import math
import random
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.core.errors import CRMUnavailable, ObjectLocked, PortalMoving, RateLimited, TransientCRMError
from spokes.core.telemetry.metrics import BUDGET_WAIT_SECONDS

_LOW_DAY_SHARE: Final = 0.1  # share of the daily limit, below which it matters when the day ends


@dataclass(frozen=True, slots=True)
class LimitState:
    """What a kind of call may do now: calls a window, places taken, seconds until a pause ends (0 when none is on).

    `day_left` is how many calls are left of the portal's day, None where HubSpot has not told it.
    """

    limit: int
    used: int
    waiting_s: float
    reason: str
    day_left: int | None = None


class Slot:
    """A place in the budget, held for one call."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self.made_call = True
        self.reported_limit: int | None = None
        self.reported_day_left: int | None = None
        self.is_day_short = False

    def read_headers(self, headers: Mapping[str, str]) -> None:
        """Learn the limits from an answer's headers, names in lower case."""
        limit = headers.get("x-hubspot-ratelimit-max", "")
        interval = headers.get("x-hubspot-ratelimit-interval-milliseconds", "")
        if limit.isdecimal() and int(limit) > 0 and interval in {"", str(round(self._window_s * 1000))}:
            self.reported_limit = int(limit)
        daily = headers.get("x-hubspot-ratelimit-daily", "")
        left = headers.get("x-hubspot-ratelimit-daily-remaining", "")
        if daily.isdecimal() and left.isdecimal():
            self.reported_day_left = int(left)
            self.is_day_short = int(left) < int(daily) * _LOW_DAY_SHARE

    def release_unused(self) -> None:
        """Say that no call was made: the place is free at once."""
        self.made_call = False


class ConcurrencyLimit:
    """The threads of the client, so that no place waits for one; no portal has more than three quarters of them.

    A portal whose calls hang therefore leaves the others their calls.
    """

    def __init__(self, concurrency: int) -> None:
        self._process = asyncio.Semaphore(concurrency)
        self._by_portal: defaultdict[int, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(concurrency - concurrency // 4)
        )

    async def acquire(self, portal_id: int) -> None:
        """Wait for a thread, first come first served."""
        own = self._by_portal[portal_id]
        await own.acquire()
        try:
            await self._process.acquire()
        except BaseException:
            own.release()
            raise

    def release(self, portal_id: int) -> None:
        """Give one back."""
        self._process.release()
        self._by_portal[portal_id].release()


CallKind: TypeAlias = Literal["calls", "search", "associations"]
PauseScope: TypeAlias = CallKind | Literal["portal"]  # what a pause holds up: one kind of call, or all of the portal's

SEARCH_WINDOW_S: Final = 1.0
_LOCKED_WAIT_S: Final = 2.0  # HubSpot asks for at least this
_MOVING_WAIT_S: Final = 300.0  # a move takes up to a day; where HubSpot names no time, we ask again every five minutes
UNKNOWN_DAY_WAIT_S: Final = 900.0  # how long to wait for a new day, where the portal's time zone is not known
_MIDNIGHT_SLACK_S: Final = 5.0  # HubSpot's clock is not ours
_MOVING_REASON: Final = PortalMoving.reason


class Backoff(NamedTuple):
    """A wait that all processes share: what it holds up, seconds, and HubSpot's policy or our reason for it."""

    scope: PauseScope
    seconds: float
    reason: str


def seconds_until_new_day(now: datetime, zone: tzinfo) -> float:
    """Return seconds until the daily limit comes back: midnight in the portal's time zone, and a little.

    Args:
        now: with a time zone, any.
    """
    tomorrow = now.astimezone(zone).date() + timedelta(days=1)
    midnight = datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=zone)
    return midnight.timestamp() - now.timestamp() + _MIDNIGHT_SLACK_S


def backoff_for_error(
    error: TransientCRMError, kind: CallKind, window_s: float, day_left: float | None = None
) -> Backoff | None:
    """What a failed call means for all others; None when it means nothing. HubSpot's own wait wins.

    Args:
        day_left: seconds until the daily limit comes back, None where that is not known.
    """
    told = error.retry_after_s
    match error:
        case PortalMoving():
            return Backoff("portal", _MOVING_WAIT_S if told is None else told, _MOVING_REASON)
        case RateLimited(policy="DAILY"):
            fallback = UNKNOWN_DAY_WAIT_S if day_left is None else day_left
            return Backoff("portal", fallback if told is None else told, "DAILY")
        case RateLimited(policy=policy):
            fallback = SEARCH_WINDOW_S if policy == "SECONDLY" else window_s
            return Backoff(kind, fallback if told is None else told, policy or error.reason)
        case ObjectLocked():
            return Backoff(kind, _LOCKED_WAIT_S if told is None else max(told, _LOCKED_WAIT_S), error.reason)
        case _:
            return None if told is None else Backoff(kind, told, error.reason)


def pause_too_long_error(wait_s: float, reason: str) -> TransientCRMError:
    """Return the error for a call that was not made because a pause lasts longer than anybody should wait."""
    if reason == _MOVING_REASON:
        return PortalMoving(retry_after_s=wait_s)
    return RateLimited(status=0, retry_after_s=wait_s, policy=reason)


Priority: TypeAlias = Literal["interactive", "background"]
PRIORITIES: Final[tuple[Priority, ...]] = ("interactive", "background")  # in the order in which they are served

# HubSpot's docs, "Webhooks API guide": the values of changeSource that come in thousands at a time.
_BULK_SOURCES: Final = frozenset({"IMPORT", "BATCH_UPDATE", "MIGRATION"})


def priority_of(change_source: str | None) -> Priority:
    """Return the priority of the work on an event by its changeSource."""
    return "background" if change_source in _BULK_SOURCES else "interactive"


CALL_KINDS: Final[tuple[CallKind, ...]] = ("calls", "search", "associations")
_SCRIPT: Final = (Path(__file__).parent / "rate_budget.lua").read_text()
_SECOND: Final = 1_000_000  # Redis' clock counts microseconds
_JITTER_S: Final = 0.003  # so that processes do not all wake for the same place
_MAX_CONNECTIONS: Final = 4  # hosted Redis plans count them, and a script takes a fraction of a millisecond
_MAX_SLEEP_S: Final = 5.0  # a pause may be ended early by an operator


class RateBudget:
    """Places for calls; `place` waits for one, first come first served within a process, portal and priority."""

    def __init__(
        self,
        redis: Redis,
        *,
        limit: int,
        search_limit: int,
        association_limit: int = 100,
        reserve: float = 0.1,
        window_s: float = 10.0,
        call_timeout_s: float = 22.0,
        concurrency: int = 32,
        max_wait_s: float = 30.0,
    ) -> None:
        """Share the budget through `redis`.

        Args:
            limit: calls in a window, until HubSpot tells its own figure.
            search_limit: searches in a second.
            association_limit: batch association calls in a window.
            reserve: share of each limit that background calls leave to interactive ones, and have for themselves too.
            call_timeout_s: a call never takes longer; the place of a process that died comes back after it.
            concurrency: places held by this process at a time, the threads of its client: no place waits for one.
            longest_wait_s: a pause longer than this is refused at once, with the wait, instead of being sat out.
        """
        self._limits: Mapping[CallKind, int] = {
            "calls": limit, "search": search_limit, "associations": association_limit,
        }  # fmt: skip
        self._reserve = reserve
        self._window_s = window_s
        self._call_timeout_s = call_timeout_s
        self._max_wait_s = max_wait_s
        self._script = redis.register_script(_SCRIPT)
        self._slot_locks: defaultdict[tuple[int, CallKind, Priority], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._concurrency = ConcurrencyLimit(concurrency)
        self._time_zones: dict[int, ZoneInfo] = {}
        self._connections = asyncio.Semaphore(_MAX_CONNECTIONS)

    @asynccontextmanager
    async def slot(self, portal_id: int, kind: CallKind, priority: Priority = "interactive") -> AsyncIterator[Slot]:
        """Hold a place around one call; a transient error of the call becomes a wait of every process.

        Raises:
            TransientCRMError: calls are paused for long, or Redis does not answer.
        """
        slot, asked = secrets.token_hex(8), time.monotonic()
        async with self._slot_locks[portal_id, kind, priority]:
            await self._acquire_slot(portal_id, kind, slot, priority)
        BUDGET_WAIT_SECONDS.labels(kind).observe(time.monotonic() - asked)
        place = Slot(self._window(kind))
        try:
            try:
                yield place
            except TransientCRMError as error:
                if wait := backoff_for_error(error, kind, self._window(kind), self._day_left_s(portal_id)):
                    with suppress(CRMUnavailable):
                        await self.pause(portal_id, wait.scope, wait.seconds, wait.reason)
                raise
        finally:
            self._concurrency.release(portal_id)
            await self._release_slot(portal_id, kind, slot, place)

    async def count_call(self, portal_id: int) -> None:
        """Count a call that was made before anybody knew whose it was; HubSpot has counted it."""
        slot, window = secrets.token_hex(8), round(self._window_s * _SECOND)
        with suppress(CRMUnavailable):
            await self._run_script(
                "take", portal_id, "calls", slot, self._limits["calls"], window, window, 0, "interactive"
            )

    async def pause(self, portal_id: int, scope: PauseScope, seconds: float, reason: str = "") -> None:
        """Hold up every process: no place is given for `seconds`; a longer pause stays as it is.

        Raises:
            CRMUnavailable: Redis does not answer.
        """
        await self._run_script("pause", portal_id, scope, math.ceil(seconds * _SECOND), reason)

    async def resume(self, portal_id: int, scope: PauseScope) -> None:
        """End a pause early."""
        await self._run_script("resume", portal_id, scope)

    async def state(self, portal_id: int) -> dict[CallKind, LimitState]:
        """What is taken and what is paused, for every kind of call."""
        states: dict[CallKind, LimitState] = {}
        for kind in CALL_KINDS:
            limit, used, wait, why, left = await self._run_script("state", portal_id, kind, self._limits[kind])
            told = int(left) if int(left) >= 0 else None
            states[kind] = LimitState(int(limit), int(used), int(wait) / _SECOND, cast("bytes", why).decode(), told)
        return states

    @property
    def portals(self) -> set[int]:
        """The portals of which this process has asked for places."""
        return {portal_id for portal_id, _, _ in self._slot_locks}

    def has_time_zone(self, portal_id: int) -> bool:
        """Whether it is known when the portal's day ends."""
        return portal_id in self._time_zones

    def set_time_zone(self, portal_id: int, time_zone: str) -> None:
        """Take note of the portal's time zone, as `Europe/Berlin`: its daily limit comes back at midnight there."""
        with suppress(ZoneInfoNotFoundError, ValueError):
            self._time_zones[portal_id] = ZoneInfo(time_zone)

    async def _acquire_slot(self, portal_id: int, kind: CallKind, slot_id: str, priority: Priority) -> None:
        window = round(self._window(kind) * _SECOND)
        lease = window + round(self._call_timeout_s * _SECOND)
        while True:
            await self._concurrency.acquire(portal_id)
            try:
                arguments = (slot_id, self._limits[kind], window, lease, self._reserve, priority)
                taken, wait, why = await self._run_script("take", portal_id, kind, *arguments)
            except BaseException:
                self._concurrency.release(portal_id)
                # Cancelled, or Redis fell silent: it may have given the place all the same.
                with suppress(CRMUnavailable):
                    await asyncio.shield(self._run_script("back", portal_id, kind, slot_id))
                raise
            if taken:
                return
            self._concurrency.release(portal_id)
            wait_s = int(wait) / _SECOND
            if why and wait_s > self._max_wait_s:
                raise pause_too_long_error(wait_s, cast("bytes", why).decode())
            await asyncio.sleep(min(wait_s, _MAX_SLEEP_S) + random.uniform(0, _JITTER_S))

    async def _release_slot(self, portal_id: int, kind: CallKind, slot_id: str, slot: Slot) -> None:
        with suppress(CRMUnavailable):  # the lease ends it as well, later
            if not slot.made_call:
                await asyncio.shield(self._run_script("back", portal_id, kind, slot_id))
                return
            told: tuple[str | int, ...] = ("", "", 0)
            if kind == "calls":  # of the other kinds it is not documented what their headers speak of
                day = round(self._day_left_s(portal_id) or UNKNOWN_DAY_WAIT_S) * _SECOND
                left = "" if slot.reported_day_left is None else slot.reported_day_left
                told = (slot.reported_limit or "", left, day)
            await asyncio.shield(
                self._run_script("end", portal_id, kind, slot_id, round(self._window(kind) * _SECOND), *told)
            )

    def _day_left_s(self, portal_id: int) -> float | None:
        zone = self._time_zones.get(portal_id)
        return seconds_until_new_day(datetime.now(UTC), zone) if zone else None

    async def _run_script(
        self, operation: str, portal_id: int, kind: PauseScope, *arguments: str | float
    ) -> list[int | bytes]:
        hash_key = f"spokes:{portal_id}:budget"
        slots = f"{hash_key}:{kind}"
        try:
            async with self._connections:
                answer = await self._script(
                    keys=[slots, f"{slots}:background", hash_key], args=[operation, kind, *arguments]
                )
        except (RedisError, OSError, TimeoutError):
            raise CRMUnavailable from None
        return cast("list[int | bytes]", answer)

    def _window(self, kind: CallKind) -> float:
        return SEARCH_WINDOW_S if kind == "search" else self._window_s
