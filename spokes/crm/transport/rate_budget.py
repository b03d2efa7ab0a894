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

_SHORT_DAY: Final = 0.1  # share of the daily limit, below which it matters when the day ends


@dataclass(frozen=True, slots=True)
class KindState:
    """What a kind of call may do now: calls a window, places taken, seconds until a pause ends (0 when none is on).

    `day_left` is how many calls are left of the portal's day, None where HubSpot has not told it.
    """

    limit: int
    used: int
    waiting_s: float
    why: str
    day_left: int | None = None


class Place:
    """A place in the budget, held for one call."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self.made_call = True
        self.told_limit: int | None = None
        self.told_day_left: int | None = None
        self.is_day_short = False

    def answered(self, headers: Mapping[str, str]) -> None:
        """Learn the limits from an answer's headers, names in lower case."""
        limit = headers.get("x-hubspot-ratelimit-max", "")
        interval = headers.get("x-hubspot-ratelimit-interval-milliseconds", "")
        if limit.isdecimal() and int(limit) > 0 and interval in {"", str(round(self._window_s * 1000))}:
            self.told_limit = int(limit)
        daily = headers.get("x-hubspot-ratelimit-daily", "")
        left = headers.get("x-hubspot-ratelimit-daily-remaining", "")
        if daily.isdecimal() and left.isdecimal():
            self.told_day_left = int(left)
            self.is_day_short = int(left) < int(daily) * _SHORT_DAY

    def unused(self) -> None:
        """Say that no call was made: the place is free at once."""
        self.made_call = False


class Threads:
    """The threads of the client, so that no place waits for one; no portal has more than three quarters of them.

    A portal whose calls hang therefore leaves the others their calls.
    """

    def __init__(self, concurrency: int) -> None:
        self._all = asyncio.Semaphore(concurrency)
        self._own: defaultdict[int, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(concurrency - concurrency // 4)
        )

    async def take(self, portal_id: int) -> None:
        """Wait for a thread, first come first served."""
        own = self._own[portal_id]
        await own.acquire()
        try:
            await self._all.acquire()
        except BaseException:
            own.release()
            raise

    def give(self, portal_id: int) -> None:
        """Give one back."""
        self._all.release()
        self._own[portal_id].release()


Kind: TypeAlias = Literal["calls", "search", "associations"]
Reach: TypeAlias = Kind | Literal["portal"]  # what a pause holds up: one kind of call, or all of the portal's

SEARCH_WINDOW_S: Final = 1.0
_LOCKED_S: Final = 2.0  # HubSpot asks for at least this
_MOVING_S: Final = 300.0  # a move takes up to a day; where HubSpot names no time, we ask again every five minutes
DAY_UNKNOWN_S: Final = 900.0  # how long to wait for a new day, where the portal's time zone is not known
_MIDNIGHT_SLACK_S: Final = 5.0  # HubSpot's clock is not ours
_MOVING: Final = PortalMoving.reason


class Pause(NamedTuple):
    """A wait that all processes share: what it holds up, seconds, and HubSpot's policy or our reason for it."""

    reach: Reach
    seconds: float
    why: str


def day_left_s(now: datetime, zone: tzinfo) -> float:
    """Return seconds until the daily limit comes back: midnight in the portal's time zone, and a little.

    Args:
        now: with a time zone, any.
    """
    tomorrow = now.astimezone(zone).date() + timedelta(days=1)
    midnight = datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=zone)
    return midnight.timestamp() - now.timestamp() + _MIDNIGHT_SLACK_S


def shared_wait(error: TransientCRMError, kind: Kind, window_s: float, day_left: float | None = None) -> Pause | None:
    """What a failed call means for all others; None when it means nothing. HubSpot's own wait wins.

    Args:
        day_left: seconds until the daily limit comes back, None where that is not known.
    """
    told = error.retry_after_s
    match error:
        case PortalMoving():
            return Pause("portal", _MOVING_S if told is None else told, _MOVING)
        case RateLimited(policy="DAILY"):
            fallback = DAY_UNKNOWN_S if day_left is None else day_left
            return Pause("portal", fallback if told is None else told, "DAILY")
        case RateLimited(policy=policy):
            fallback = SEARCH_WINDOW_S if policy == "SECONDLY" else window_s
            return Pause(kind, fallback if told is None else told, policy or error.reason)
        case ObjectLocked():
            return Pause(kind, _LOCKED_S if told is None else max(told, _LOCKED_S), error.reason)
        case _:
            return None if told is None else Pause(kind, told, error.reason)


def too_long(wait_s: float, why: str) -> TransientCRMError:
    """Return the error for a call that was not made because a pause lasts longer than anybody should wait."""
    if why == _MOVING:
        return PortalMoving(retry_after_s=wait_s)
    return RateLimited(status=0, retry_after_s=wait_s, policy=why)


Priority: TypeAlias = Literal["interactive", "background"]
PRIORITIES: Final[tuple[Priority, ...]] = ("interactive", "background")  # in the order in which they are served

# HubSpot's docs, "Webhooks API guide": the values of changeSource that come in thousands at a time.
_BULK_SOURCES: Final = frozenset({"IMPORT", "BATCH_UPDATE", "MIGRATION"})


def priority_of(change_source: str | None) -> Priority:
    """Return the priority of the work on an event by its changeSource."""
    return "background" if change_source in _BULK_SOURCES else "interactive"


KINDS: Final[tuple[Kind, ...]] = ("calls", "search", "associations")
_SCRIPT: Final = (Path(__file__).parent / "rate_budget.lua").read_text()
_SECOND: Final = 1_000_000  # Redis' clock counts microseconds
_JITTER_S: Final = 0.003  # so that processes do not all wake for the same place
_CONNECTIONS: Final = 4  # hosted Redis plans count them, and a script takes a fraction of a millisecond
_LONGEST_NAP_S: Final = 5.0  # a pause may be ended early by an operator


class Budget:
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
        longest_wait_s: float = 30.0,
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
        self._limits: Mapping[Kind, int] = {
            "calls": limit, "search": search_limit, "associations": association_limit,
        }  # fmt: skip
        self._reserve = reserve
        self._window_s = window_s
        self._call_timeout_s = call_timeout_s
        self._longest_wait_s = longest_wait_s
        self._script = redis.register_script(_SCRIPT)
        self._turns: defaultdict[tuple[int, Kind, Priority], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._threads = Threads(concurrency)
        self._zones: dict[int, ZoneInfo] = {}
        self._connections = asyncio.Semaphore(_CONNECTIONS)

    @asynccontextmanager
    async def place(self, portal_id: int, kind: Kind, priority: Priority = "interactive") -> AsyncIterator[Place]:
        """Hold a place around one call; a transient error of the call becomes a wait of every process.

        Raises:
            TransientCRMError: calls are paused for long, or Redis does not answer.
        """
        slot, asked = secrets.token_hex(8), time.monotonic()
        async with self._turns[portal_id, kind, priority]:
            await self._take(portal_id, kind, slot, priority)
        BUDGET_WAIT_SECONDS.labels(kind).observe(time.monotonic() - asked)
        place = Place(self._window(kind))
        try:
            try:
                yield place
            except TransientCRMError as error:
                if wait := shared_wait(error, kind, self._window(kind), self._day_left_s(portal_id)):
                    with suppress(CRMUnavailable):
                        await self.pause(portal_id, wait.reach, wait.seconds, wait.why)
                raise
        finally:
            self._threads.give(portal_id)
            await self._end(portal_id, kind, slot, place)

    async def count(self, portal_id: int) -> None:
        """Count a call that was made before anybody knew whose it was; HubSpot has counted it."""
        slot, window = secrets.token_hex(8), round(self._window_s * _SECOND)
        with suppress(CRMUnavailable):
            await self._run("take", portal_id, "calls", slot, self._limits["calls"], window, window, 0, "interactive")

    async def pause(self, portal_id: int, reach: Reach, seconds: float, why: str = "") -> None:
        """Hold up every process: no place is given for `seconds`; a longer pause stays as it is.

        Raises:
            CRMUnavailable: Redis does not answer.
        """
        await self._run("pause", portal_id, reach, math.ceil(seconds * _SECOND), why)

    async def resume(self, portal_id: int, reach: Reach) -> None:
        """End a pause early."""
        await self._run("resume", portal_id, reach)

    async def state(self, portal_id: int) -> dict[Kind, KindState]:
        """What is taken and what is paused, for every kind of call."""
        states: dict[Kind, KindState] = {}
        for kind in KINDS:
            limit, used, wait, why, left = await self._run("state", portal_id, kind, self._limits[kind])
            told = int(left) if int(left) >= 0 else None
            states[kind] = KindState(int(limit), int(used), int(wait) / _SECOND, cast("bytes", why).decode(), told)
        return states

    @property
    def portals(self) -> set[int]:
        """The portals of which this process has asked for places."""
        return {portal_id for portal_id, _, _ in self._turns}

    def knows_day(self, portal_id: int) -> bool:
        """Whether it is known when the portal's day ends."""
        return portal_id in self._zones

    def learn_day(self, portal_id: int, time_zone: str) -> None:
        """Take note of the portal's time zone, as `Europe/Berlin`: its daily limit comes back at midnight there."""
        with suppress(ZoneInfoNotFoundError, ValueError):
            self._zones[portal_id] = ZoneInfo(time_zone)

    async def _take(self, portal_id: int, kind: Kind, slot: str, priority: Priority) -> None:
        window = round(self._window(kind) * _SECOND)
        lease = window + round(self._call_timeout_s * _SECOND)
        while True:
            await self._threads.take(portal_id)
            try:
                arguments = (slot, self._limits[kind], window, lease, self._reserve, priority)
                taken, wait, why = await self._run("take", portal_id, kind, *arguments)
            except BaseException:
                self._threads.give(portal_id)
                # Cancelled, or Redis fell silent: it may have given the place all the same.
                with suppress(CRMUnavailable):
                    await asyncio.shield(self._run("back", portal_id, kind, slot))
                raise
            if taken:
                return
            self._threads.give(portal_id)
            wait_s = int(wait) / _SECOND
            if why and wait_s > self._longest_wait_s:
                raise too_long(wait_s, cast("bytes", why).decode())
            await asyncio.sleep(min(wait_s, _LONGEST_NAP_S) + random.uniform(0, _JITTER_S))

    async def _end(self, portal_id: int, kind: Kind, slot: str, place: Place) -> None:
        with suppress(CRMUnavailable):  # the lease ends it as well, later
            if not place.made_call:
                await asyncio.shield(self._run("back", portal_id, kind, slot))
                return
            told: tuple[str | int, ...] = ("", "", 0)
            if kind == "calls":  # of the other kinds it is not documented what their headers speak of
                day = round(self._day_left_s(portal_id) or DAY_UNKNOWN_S) * _SECOND
                left = "" if place.told_day_left is None else place.told_day_left
                told = (place.told_limit or "", left, day)
            await asyncio.shield(self._run("end", portal_id, kind, slot, round(self._window(kind) * _SECOND), *told))

    def _day_left_s(self, portal_id: int) -> float | None:
        zone = self._zones.get(portal_id)
        return day_left_s(datetime.now(UTC), zone) if zone else None

    async def _run(self, operation: str, portal_id: int, kind: Reach, *arguments: str | float) -> list[int | bytes]:
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

    def _window(self, kind: Kind) -> float:
        return SEARCH_WINDOW_S if kind == "search" else self._window_s
