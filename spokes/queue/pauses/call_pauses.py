"""Pauses of one kind of call, such as `contacts.write`: the events that need it wait, and everything else runs.

HubSpot may fail some calls and answer others; a host that handlers call with `tools.http` is a kind by itself. After
several failures in a row the kind is paused, with one alert. Its events wait in a set of their own, without a spent
attempt. From time to time one of them runs as a probe: if its call is answered, the pause ends and all run; if not, the
pause gets longer.
"""

import random
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import orjson
import structlog
from redis.asyncio import Redis

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.audit.alerts.bad_items import read_items
from spokes.core import clock
from spokes.core.errors import CRMUnavailable, RateLimited
from spokes.core.redis import keys
from spokes.core.telemetry.alerts import Alert
from spokes.crm.transport.call_kinds import declares_kind
from spokes.http.errors import HttpUnavailable, TransientHttpError
from spokes.queue.held_deliveries import Calls, HeldDeliveries
from spokes.queue.pauses.call_breaker import CallBreaker, probe_delay_s
from spokes.queue.pauses.restored_pauses import read_or_restore
from spokes.routing import Route

HANDLER_PREFIX: Final = "handler:"  # of the kind under which a handler is paused
_PROBE_CLAIM_S: Final = 30  # until a released probe must have begun; otherwise another event is released
_PROBE_RUN_S: Final = 300  # until a probe that has begun counts as lost
_NOBODY_WAITS_S: Final = 4_000.0  # longer than any retry delay: no event needs the calls any more
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class CallPause:
    """Why calls of one kind are paused, since when, until when or until the next probe; epoch seconds.

    `failed_probes` is None if the pause ends by the clock.
    """

    portal_id: int
    kind: str
    reason: str
    since: float
    until: float
    failed_probes: int | None = None

    @property
    def calls(self) -> Calls:
        """The calls that are paused."""
        return Calls(self.portal_id, self.kind)

    @property
    def handler(self) -> str:
        """The handler that an operator has paused, empty if calls are paused; see handler_pauses.py."""
        return self.kind.removeprefix(HANDLER_PREFIX) if self.kind.startswith(HANDLER_PREFIX) else ""

    @property
    def host(self) -> str:
        """The host of `tools.http` whose calls are paused, empty for calls of HubSpot and handlers."""
        return self.kind if "://" in self.kind else ""

    @property
    def field(self) -> str:
        """The pause's name in the stored hash."""
        return self.calls.field

    def to_json(self) -> str:
        """Return the form stored in Redis."""
        stored = {"reason": self.reason, "since": self.since, "until": self.until, "failed_probes": self.failed_probes}
        return orjson.dumps(stored).decode()

    @classmethod
    def from_item(cls, item: tuple[bytes, bytes]) -> Self:
        """Parse the form stored in Redis."""
        calls = Calls.from_field(item[0])
        stored = orjson.loads(item[1])
        failed_probes = stored.get("failed_probes")
        return cls(
            *calls, str(stored["reason"]), float(stored["since"]), float(stored["until"]),
            None if failed_probes is None else int(failed_probes),
        )  # fmt: skip


class CallPauses:
    """The pauses of kinds of calls, shared by all workers."""

    def __init__(self, redis: Redis) -> None:
        self.breaker = CallBreaker()
        self._redis = redis
        self._episodes = AlertEpisodes(redis)
        self.held = HeldDeliveries(redis)
        self._rng = random.Random()
        self._pauses: dict[Calls, CallPause] = {}
        self._callers: set[tuple[str, str]] = set()  # kind and handler of failed calls, declared or not

    def holding(self, portal_id: int, route: Route, object_type: str) -> list[CallPause]:
        """Return the pauses that hold a handler's events of this object type."""
        if not self._pauses:
            return []
        return [
            pause
            for calls, pause in self._pauses.items()
            if calls.portal_id == portal_id
            and (
                pause.handler == route.name
                or (calls.kind, route.name) in self._callers
                or calls.kind in route.uses.calls
                or declares_kind(calls.kind, route.uses.reads, route.uses.may, object_type)
            )
        ]

    def pause_of(self, portal_id: int, error: BaseException) -> CallPause | None:
        """Return the pause of the kind of call that failed, or was refused for now."""
        if not isinstance(error, CRMUnavailable | RateLimited | TransientHttpError):
            return None
        return self._pauses.get(Calls(portal_id, error.call_kind))

    def note_caller(self, kind: str, handler: str) -> None:
        """Note that a handler makes calls of a kind, declared or not: pauses of them hold its events."""
        self._callers.add((kind, handler))

    async def record_failure(self, portal_id: int, error: CRMUnavailable | HttpUnavailable, subject: str) -> None:
        """Count an event that failed by a call, and pause such calls after several failures of several `subject`s."""
        calls = Calls(portal_id, error.call_kind)
        if not error.call_kind:  # no call of HubSpot's API
            return
        if calls not in self._pauses and self.breaker.record_failure(calls, time.monotonic(), subject):
            await self.pause(calls, error.reason, probe_delay_s(0, self._rng), failed_probes=0)

    async def pause(self, calls: Calls, reason: str, seconds: float, *, failed_probes: int | None = None) -> None:
        """Pause calls of a kind, with an alert, unless they are paused; see CallPause for `failed_probes`."""
        now = clock.now_s()
        pause = self._pauses.setdefault(calls, CallPause(*calls, reason, now, now + seconds, failed_probes))
        if await self._redis.hsetnx(keys.PAUSED_CALLS, pause.field, pause.to_json()):  # type: ignore[misc]  # redis-py types one class for sync and async
            await self._set_alert(calls, reason, is_active=True)

    async def begin_probe(self, pauses: Sequence[CallPause], delivery_id: str) -> CallPause | None:
        """Return the pause that an event of this delivery probes, which `end_probe` ends; None if the event waits."""
        for pause in pauses:
            if pause.failed_probes is None or self.breaker.is_probing(pause.calls):
                continue
            probe = keys.probe(*pause.calls)
            if await self._redis.get(probe) == delivery_id.encode() and not self.breaker.is_probing(pause.calls):
                self.breaker.begin_probe(pause.calls)
                await self._redis.expire(probe, _PROBE_RUN_S)
                return pause
        return None

    async def end_probe(self, pause: CallPause) -> None:
        """End the pause if HubSpot answered the probe, else lengthen it; if no call was made, another event probes."""
        result = self.breaker.end_probe(pause.calls)
        match result.is_answered:
            case True:
                await self.end(pause)
            case False:
                failed_probes = (pause.failed_probes or 0) + 1
                until = clock.now_s() + max(result.retry_after_s, probe_delay_s(failed_probes, self._rng))
                longer = replace(pause, until=until, failed_probes=failed_probes)
                if await self._redis.hexists(keys.PAUSED_CALLS, pause.field):  # type: ignore[misc]  # as above
                    await self._redis.hset(keys.PAUSED_CALLS, pause.field, longer.to_json())  # type: ignore[misc]  # as above
                    self._pauses[pause.calls] = longer
        await self._redis.delete(keys.probe(*pause.calls))

    async def end(self, pause: CallPause) -> bool:
        """End a pause and make its events due; return whether it was stored."""
        calls = pause.calls
        self._pauses.pop(calls, None)
        was_paused = bool(await self._redis.hdel(keys.PAUSED_CALLS, pause.field))  # type: ignore[misc]  # as above
        if was_paused:
            lasted_s = round(clock.now_s() - pause.since)
            log.info("calls_resumed", portal_id=calls.portal_id, calls=calls.kind, lasted_s=lasted_s)
            if not any(other.portal_id == calls.portal_id and not other.handler for other in await self.list()):
                await self._set_alert(calls, pause.reason, is_active=False)
        await self.held.release(calls)
        return was_paused

    async def end_all(self, portal_id: int) -> list[CallPause]:
        """End the portal's pauses of calls; return them."""
        pauses = [pause for pause in await self.list() if pause.portal_id == portal_id and not pause.handler]
        return [pause for pause in pauses if await self.end(pause)]

    async def list(self) -> list[CallPause]:
        """Return the pauses, ordered by portal and kind."""
        stored = await self._redis.hgetall(keys.PAUSED_CALLS)  # type: ignore[misc]  # as above
        return sorted(
            await read_items(self._redis, "pause of calls", stored.items(), CallPause.from_item),
            key=lambda pause: pause.calls,
        )

    async def refresh(self) -> None:
        """Read the pauses, end those that are over, and release probes."""
        known = {pause.field: pause.to_json() for pause in self._pauses.values()}
        pauses = await read_or_restore(self._redis, keys.PAUSED_CALLS, self.list, known)
        self._pauses = {pause.calls: pause for pause in pauses}
        now = clock.now_s()
        for pause in list(self._pauses.values()):
            if now < pause.until:
                continue
            released = 0 if pause.failed_probes is None else await self.held.release_probe(pause.calls, _PROBE_CLAIM_S)
            if pause.failed_probes is None or (released == 0 and now > pause.until + _NOBODY_WAITS_S):
                await self.end(pause)

    @property
    def paused(self) -> Collection[Calls]:
        """The kinds of calls that were paused when this process last read the pauses."""
        return self._pauses.keys()

    async def _set_alert(self, calls: Calls, reason: str, *, is_active: bool) -> None:
        fields: dict[str, Any] = {"why": reason, "calls": calls.kind} if is_active else {}
        portal_id = calls.portal_id
        await self._episodes.set_state(
            Alert.CALLS_PAUSED, subject=portal_id, portal_id=portal_id, is_active=is_active, **fields
        )
