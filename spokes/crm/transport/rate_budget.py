"""One rate budget for all worker processes, kept in Redis, for each portal. Rule: no call without a place in it.

A place is taken before the call and comes back one window after the call has ended, so no latency can make HubSpot
count more calls than it allows (see rate_budget.lua). Facts: HubSpot's docs, "API usage guidelines and limits".
"""

import asyncio
import math
import random
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.core.errors import CRMUnavailable, TransientCRMError
from spokes.core.telemetry.metrics import BUDGET_WAIT_SECONDS
from spokes.crm.transport.places import KindState, Place, Threads
from spokes.crm.transport.priorities import Priority
from spokes.crm.transport.waits import DAY_UNKNOWN_S, SEARCH_WINDOW_S, Kind, Reach, day_left_s, shared_wait, too_long

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
