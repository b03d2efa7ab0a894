"""The rate budget of each portal, shared by all worker processes through Redis: no call without a slot.

A slot is taken before the call and comes back one window after the call has ended, less what recent round trips have in
common, so HubSpot does not count more calls than it allows (see rate_budget.lua). A call that failed can become a
backoff, which every process observes. Interactive calls come before those of imports.

Source: HubSpot's docs, "API usage guidelines and limits" and "Error handling".
"""

import asyncio
import heapq
import math
import random
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice
from typing import Final, Literal, NamedTuple, TypeAlias, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.core.errors import CRMUnavailable, ObjectLocked, PortalMoving, RateLimited, TransientCRMError
from spokes.core.priority import PRIORITIES, Priority
from spokes.core.redis.key_names import budget_keys
from spokes.core.redis.scripts import read_script
from spokes.core.telemetry.metrics import BUDGET_WAIT_SECONDS
from spokes.crm.transport.concurrency_limit import ConcurrencyLimit
from spokes.crm.transport.idle_entries import IdleEntries
from spokes.crm.transport.pacing import BudgetUse, batch_gap_s
from spokes.crm.transport.slot import Slot

CallKind: TypeAlias = Literal["calls", "search", "associations"]
CALL_KINDS: Final[tuple[CallKind, ...]] = ("calls", "search", "associations")
PauseScope: TypeAlias = CallKind | Literal["portal"]  # what a pause holds up: one kind of call, or all of the portal's

SEARCH_WINDOW_S: Final = 1.0
UNKNOWN_DAY_WAIT_S: Final = 900.0  # wait for a new day if the portal's time zone is unknown
_OAUTH_LIMIT: Final = 110  # calls in 10 s, by app and installing account; without a daily limit
_LOCKED_WAIT_S: Final = 2.0  # HubSpot asks for at least this
_MOVING_WAIT_S: Final = 300.0  # a move takes up to a day; if HubSpot names no time, we try every five minutes
_MOVING_REASON: Final = PortalMoving.reason
_MIDNIGHT_SLACK_S: Final = 5.0  # HubSpot's clock is not ours

_SCRIPT: Final = read_script(__file__, "rate_budget.lua")
_SECOND: Final = 1_000_000  # Redis' clock counts microseconds
_JITTER_S: Final = 0.003  # so that processes do not all wake for the same slot
_MAX_CONNECTIONS: Final = 4  # hosted Redis plans count them, and a script takes a fraction of a millisecond
_MAX_SLEEP_S: Final = 5.0  # an operator may end a pause early
_IDLE_S: Final = 300.0  # since its last use, until a portal's queues are forgotten
_SCARCE_FOR_S: Final = 0.05  # for which an answer whether calls are scarce holds: with many portals it takes a while
_USE_MEMORY_S: Final = {True: 20.0, False: 3600.0}  # of what a slot has shown of a limit, without and with a daily one


_SlotKey: TypeAlias = tuple[int, CallKind, Priority]  # portal, kind and priority of calls


@dataclass(slots=True)
class _SlotQueue:
    """Those who wait for a slot of one portal, kind and priority; `used_at` on the monotonic clock."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    used_at: float = 0.0

    def is_idle(self) -> bool:
        return not self.lock.locked() and time.monotonic() - self.used_at > _IDLE_S


@dataclass(frozen=True, slots=True)
class LimitState:
    """The use of the limit for one kind of call.

    `limit` and `used` in calls per window; `waiting_s` until a pause ends, 0 without a pause; `reason` of the pause.
    `day_left` is how many calls are left of the portal's day, None if HubSpot has not reported it.
    """

    limit: int
    used: int
    waiting_s: float
    reason: str
    day_left: int | None = None


class Backoff(NamedTuple):
    """A wait that every process observes: what it holds up, seconds, and HubSpot's policy or our reason."""

    scope: PauseScope
    seconds: float
    reason: str


def seconds_until_new_day(now: datetime, zone: tzinfo) -> float:
    """Return the seconds until the daily limit is renewed: at midnight in the portal's time zone, plus a slack.

    Args:
        now: with any time zone.
    """
    tomorrow = now.astimezone(zone).date() + timedelta(days=1)
    midnight = datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=zone)
    return midnight.timestamp() - now.timestamp() + _MIDNIGHT_SLACK_S


def backoff_for_error(
    error: TransientCRMError, kind: CallKind, window_s: float, day_left_s: float | None = None
) -> Backoff | None:
    """Return the backoff that a failed call causes, or None. A wait that HubSpot names wins over ours.

    Args:
        day_left_s: seconds until the daily limit is renewed, None if unknown.
    """
    named_s = error.retry_after_s
    match error:
        case PortalMoving():
            return Backoff("portal", _MOVING_WAIT_S if named_s is None else named_s, _MOVING_REASON)
        case RateLimited(policy="DAILY"):
            fallback = UNKNOWN_DAY_WAIT_S if day_left_s is None else day_left_s
            return Backoff("portal", fallback if named_s is None else named_s, "DAILY")
        case RateLimited(policy=policy):
            fallback = SEARCH_WINDOW_S if policy == "SECONDLY" else window_s
            return Backoff(kind, fallback if named_s is None else named_s, policy or error.reason)
        case ObjectLocked():
            return Backoff(kind, _LOCKED_WAIT_S if named_s is None else max(named_s, _LOCKED_WAIT_S), error.reason)
        case CRMUnavailable():  # other kinds of calls may succeed; see spokes/queue/pauses/call_pauses.py
            return None
        case _:
            return None if named_s is None else Backoff(kind, named_s, error.reason)


def pause_too_long_error(wait_s: float, reason: str) -> TransientCRMError:
    """Return the error of a call that was not made because a pause lasts longer than callers wait."""
    if reason == _MOVING_REASON:
        return PortalMoving(retry_after_s=wait_s)
    return RateLimited(status=0, retry_after_s=wait_s, policy=reason)


class RateBudget:
    """Slots for calls; first come first served within a process, portal, kind and priority."""

    def __init__(
        self,
        redis: Redis,
        *,
        limit: int,
        search_limit: int,
        association_limit: int = 100,
        reserve: float = 0.05,
        window_s: float = 10.0,
        call_timeout_s: float = 22.0,
        concurrency: int = 32,
        max_wait_s: float = 30.0,
    ) -> None:
        """Share the budget through `redis`.

        Args:
            limit: calls per window, until HubSpot reports its own limit.
            search_limit: searches per second.
            association_limit: batch association calls per window.
            reserve: share of each limit that imports leave to interactive calls; imports may use as
                much again even when interactive calls use all the rest.
            call_timeout_s: no call takes longer; the slot of a process that died comes back after it.
            concurrency: slots held by this process at a time: the threads of its client.
            max_wait_s: a pause longer than this is not waited out: callers get its error at once.
        """
        self._limits: Mapping[CallKind, int] = {
            "calls": limit, "search": search_limit, "associations": association_limit,
        }  # fmt: skip
        self.oauth_portals: Container[int] = ()  # portals with HubSpot's limit for apps that customers install
        self._reserve = reserve
        self._window_s = window_s
        self._call_timeout_s = call_timeout_s
        self._max_wait_s = max_wait_s
        self.sleep: Callable[[float], Awaitable[object]] = asyncio.sleep  # until a slot may be free
        self._script = redis.register_script(_SCRIPT)
        self._slot_queues: IdleEntries[_SlotKey, _SlotQueue] = IdleEntries(lambda _: _SlotQueue(), _SlotQueue.is_idle)
        self._concurrency = ConcurrencyLimit(concurrency)
        self._time_zones: dict[int, ZoneInfo] = {}
        self._uses: dict[_SlotKey, BudgetUse] = {}  # the latest of each limit that was used a moment ago
        self._is_scarce, self._scarce_until = False, 0.0
        # Called for each backoff, with its error and seconds: it may be a pause.
        self.on_backoff: Callable[[int, TransientCRMError, float], Awaitable[object]] | None = None
        self._connections = asyncio.Semaphore(_MAX_CONNECTIONS)

    @asynccontextmanager
    async def slot(
        self, portal_id: int, kind: CallKind, priority: Priority = "interactive", queue_id: str = ""
    ) -> AsyncIterator[Slot]:
        """Hold a slot around one call; a transient error of the call becomes a backoff of every process.

        Args:
            portal_id: whose limit.
            kind: of call.
            priority: of the call.
            queue_id: of the batch queue that the call is for, unique among all processes; empty without one.

        Raises:
            TransientCRMError: calls are paused for longer than callers wait, or Redis does not answer.
        """
        slot_id, started = secrets.token_hex(8), time.monotonic()
        queue = self._slot_queues[portal_id, kind, priority]
        queue.used_at = started
        async with queue.lock:
            await self._acquire_slot(portal_id, kind, slot_id, priority, queue_id)
        BUDGET_WAIT_SECONDS.labels(kind).observe(time.monotonic() - started)
        slot = Slot(self._window(kind))
        try:
            try:
                yield slot
            except TransientCRMError as error:
                slot.was_refused = isinstance(error, RateLimited)
                if backoff := backoff_for_error(error, kind, self._window(kind), self._day_left_s(portal_id)):
                    await self._back_off(portal_id, error, backoff)
                raise
        finally:
            self._concurrency.release(portal_id, priority)
            await self._release_slot(portal_id, kind, slot_id, slot)

    def batch_gap_s(self, portal_id: int, kind: CallKind, priority: Priority) -> float:
        """Return how many seconds after its last batch a queue may send one that is not full."""
        use = self._uses.get((portal_id, kind, priority))
        return batch_gap_s(use, now=time.monotonic(), window_s=self._window(kind))

    @property
    def is_scarce(self) -> bool:
        """Whether a queue of any portal has to pause between its batches, as of a moment ago."""
        now = time.monotonic()
        if now >= self._scarce_until:
            self._scarce_until = now + _SCARCE_FOR_S
            self._uses = {
                key: use for key, use in self._uses.items() if now - use.at < _USE_MEMORY_S[use.day_left is None]
            }
            self._is_scarce = any(
                batch_gap_s(use, now=now, window_s=self._window(kind)) for (_, kind, _), use in self._uses.items()
            )
        return self._is_scarce

    async def count_call(self, portal_id: int) -> None:
        """Count a call that was made before its portal was known; HubSpot has counted it."""
        slot_id, window = secrets.token_hex(8), round(self._window_s * _SECOND)
        arguments = (slot_id, self._limit(portal_id, "calls"), window, window, 0, "interactive", "")
        with suppress(CRMUnavailable):
            await self._run_script("take", portal_id, "calls", *arguments)

    async def pause(self, portal_id: int, scope: PauseScope, seconds: float, reason: str = "") -> None:
        """Grant no slot in any process for `seconds`; a longer pause stays as it is.

        Raises:
            CRMUnavailable: Redis does not answer.
        """
        await self._run_script("pause", portal_id, scope, math.ceil(seconds * _SECOND), reason)

    async def resume(self, portal_id: int, scope: PauseScope) -> None:
        """End a pause early."""
        await self._run_script("resume", portal_id, scope)

    async def state(self, portal_id: int) -> dict[CallKind, LimitState]:
        """Return the use of every limit, by kind of call."""
        states: dict[CallKind, LimitState] = {}
        for kind in CALL_KINDS:
            limit, used, wait, reason, left = await self._run_script(
                "state", portal_id, kind, self._limit(portal_id, kind)
            )
            day_left = int(left) if int(left) >= 0 else None
            waiting_s = int(wait) / _SECOND
            states[kind] = LimitState(int(limit), int(used), waiting_s, cast("bytes", reason).decode(), day_left)
        return states

    def latest_portals(self, count: int) -> set[int]:
        """Return the portals for which this process has requested slots lately, at most `count`."""
        latest = heapq.nlargest(
            len(CALL_KINDS) * len(PRIORITIES) * count, self._slot_queues.items(), key=lambda item: item[1].used_at
        )
        return set(islice(dict.fromkeys(portal_id for (portal_id, _, _), _ in latest), count))

    def has_time_zone(self, portal_id: int) -> bool:
        """Return whether the portal's time zone is known."""
        return portal_id in self._time_zones

    def set_time_zone(self, portal_id: int, time_zone: str) -> None:
        """Set the portal's time zone, as `Europe/Berlin`: its daily limit is renewed at midnight there."""
        with suppress(ZoneInfoNotFoundError, ValueError):
            self._time_zones[portal_id] = ZoneInfo(time_zone)

    async def _back_off(self, portal_id: int, error: TransientCRMError, backoff: Backoff) -> None:
        with suppress(CRMUnavailable):
            await self.pause(portal_id, backoff.scope, backoff.seconds, backoff.reason)
        if self.on_backoff is not None:
            with suppress(RedisError, OSError):  # the next call that is not made records the pause
                await self.on_backoff(portal_id, error, backoff.seconds)

    async def _acquire_slot(
        self, portal_id: int, kind: CallKind, slot_id: str, priority: Priority, queue_id: str = ""
    ) -> None:
        window = round(self._window(kind) * _SECOND)
        lease = window + round(self._call_timeout_s * _SECOND)
        while True:
            await self._concurrency.acquire(portal_id, priority)
            try:
                arguments = (slot_id, self._limit(portal_id, kind), window, lease, self._reserve, priority, queue_id)
                is_granted, wait, reason, *use = await self._run_script("take", portal_id, kind, *arguments)
            except BaseException:
                self._concurrency.release(portal_id, priority)
                # Cancelled, or Redis did not answer: it may still have granted the slot.
                with suppress(CRMUnavailable):
                    await asyncio.shield(self._run_script("back", portal_id, kind, slot_id))
                raise
            if is_granted:
                if use:
                    self._uses[portal_id, kind, priority] = _read_use(use, time.monotonic())
                return
            self._concurrency.release(portal_id, priority)
            wait_s = int(wait) / _SECOND
            if reason and wait_s > self._max_wait_s:
                raise pause_too_long_error(wait_s, cast("bytes", reason).decode())
            await self.sleep(min(wait_s, _MAX_SLEEP_S) + random.uniform(0, _JITTER_S))

    async def _release_slot(self, portal_id: int, kind: CallKind, slot_id: str, slot: Slot) -> None:
        with suppress(CRMUnavailable):  # otherwise the slot's lease ends it, later
            if not slot.made_call:
                await asyncio.shield(self._run_script("back", portal_id, kind, slot_id))
                return
            window = round(self._window(kind) * _SECOND)
            reported: tuple[str | int, ...] = ("", "", "", 0)
            if kind == "calls":  # for the other kinds, HubSpot does not document which limit the headers report
                day_length = round(self._day_left_s(portal_id) or UNKNOWN_DAY_WAIT_S) * _SECOND
                day_left = "" if slot.reported_day_left is None else slot.reported_day_left
                reported = (slot.reported_limit or "", day_left, slot.reported_day_limit or 0, day_length)
            round_trip = round(slot.round_trip_s() * _SECOND)
            await asyncio.shield(self._run_script("end", portal_id, kind, slot_id, window, round_trip, *reported))

    def _day_left_s(self, portal_id: int) -> float | None:
        zone = self._time_zones.get(portal_id)
        return seconds_until_new_day(datetime.now(UTC), zone) if zone else None

    async def _run_script(
        self, operation: str, portal_id: int, kind: PauseScope, *arguments: str | float
    ) -> list[int | bytes]:
        names = [
            budget_keys.rate_budget_slots(portal_id, kind),
            budget_keys.rate_budget_import_slots(portal_id, kind),
            budget_keys.rate_budget(portal_id),
            budget_keys.rate_budget_queues(portal_id, kind),
            budget_keys.rate_budget_round_trips(portal_id, kind),
        ]
        try:
            async with self._connections:
                answer = await self._script(keys=names, args=[operation, kind, *arguments])
        except (RedisError, OSError, TimeoutError):
            raise CRMUnavailable from None
        return cast("list[int | bytes]", answer)

    def _limit(self, portal_id: int, kind: CallKind) -> int:
        """Return the limit that holds until HubSpot reports its own."""
        return _OAUTH_LIMIT if kind == "calls" and portal_id in self.oauth_portals else self._limits[kind]

    def _window(self, kind: CallKind) -> float:
        return SEARCH_WINDOW_S if kind == "search" else self._window_s


def _read_use(numbers: Sequence[int | bytes], now: float) -> BudgetUse:
    used, available, queues, day_left, day_limit, day_left_us, *returning = map(int, numbers)
    is_day_known = day_left >= 0 and day_limit > 0
    return BudgetUse(
        used, available, queues, now,
        day_left if is_day_known else None, day_limit if is_day_known else None, day_left_us / _SECOND,
        tuple(returning),
    )  # fmt: skip
