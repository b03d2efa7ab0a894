"""Pause a portal whose work cannot succeed now. Rule: paused work waits in the queue, and costs no attempt.

A refused token pauses until HubSpot knows it again, a spent day until the day's limit is back, a HubSpot that keeps
failing until it answers; a probe finds out, one worker at a time. An operator's pause ends by an operator.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.audit.alert_episodes import Episodes
from spokes.audit.records import Action, AuditRecord
from spokes.audit.stream import append
from spokes.core.errors import DAILY, CRMUnavailable, NotAuthorized, RateLimited
from spokes.core.redis import keys
from spokes.core.telemetry.alerts import Alert

OPERATOR: Final = "operator"
_LOOK_S: Final = 1.0
_PROBE_S: Final = 10
_DAILY_S: Final = 900.0  # HubSpot's day ends at midnight in the portal's own time zone, which it does not tell
_FAILURES: Final = 5  # in a row open the breaker
_APART_S: Final = 1.0  # of one failing moment many events tell; they count as one
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Pause:
    """Why a portal's work waits, since when, and until when if that is known; epoch seconds."""

    why: str
    since: float
    until: float | None = None

    @property
    def wants_probe(self) -> bool:
        """Whether asking HubSpot tells when it is over."""
        return self.why != OPERATOR and self.until is None


class Breaker:
    """Counts how often HubSpot failed in a row, by portal. Pure: the clock is an argument."""

    def __init__(self) -> None:
        self._failures: dict[int, tuple[int, float]] = {}  # how many, and when the last one was

    def failed(self, portal_id: int, now: float) -> bool:
        """Count a failure; return whether it is one too many."""
        count, last = self._failures.get(portal_id, (0, -_APART_S))
        if now - last < _APART_S:
            return False
        self._failures[portal_id] = (count + 1, now)
        return count + 1 >= _FAILURES

    def answered(self, portal_id: int) -> None:
        """HubSpot has answered."""
        self._failures.pop(portal_id, None)


class Circuit:
    """The pauses of all portals, as all workers share them."""

    def __init__(self, redis: Redis, probe: Callable[[], Awaitable[bool]] | None = None) -> None:
        """Keep pauses in `redis`; `probe` returns whether HubSpot answers and knows our token."""
        self._redis = redis
        self._probe = probe
        self._episodes = Episodes(redis)
        self._breaker = Breaker()
        self._known: dict[int, Pause] = {}

    def is_paused(self, portal_id: int) -> bool:
        """Return whether the portal was paused when this process last looked."""
        return portal_id in self._known

    async def judge(self, portal_id: int, error: BaseException | None) -> None:
        """Draw the conclusion from one event's use of HubSpot; None is success."""
        match error:
            case NotAuthorized():
                await self.pause(portal_id, error.reason)
            case RateLimited(policy=policy) if policy == DAILY:
                await self.pause(portal_id, "daily_limit", seconds=error.retry_after_s or _DAILY_S)
            case CRMUnavailable() if error.status != 0 or error.retry_after_s is None:
                if self._breaker.failed(portal_id, time.monotonic()):
                    await self.pause(portal_id, error.reason)
            case _:
                self._breaker.answered(portal_id)

    async def pause(self, portal_id: int, why: str, *, seconds: float | None = None) -> bool:
        """Let the portal's work wait; return whether it was not paused before. The first pause alerts."""
        if portal_id in self._known:
            return False
        now = time.time()
        pause = Pause(why, now, None if seconds is None else now + seconds)
        fields = orjson.dumps({"why": pause.why, "since": pause.since, "until": pause.until})
        self._known[portal_id] = pause
        first = bool(await self._redis.hsetnx(keys.PAUSED, str(portal_id), fields))  # type: ignore[misc,arg-type]  # redis-py types one class for sync and async, and forgets bytes
        if first:
            level = "warning" if why == OPERATOR else "error"
            await self._episodes.tell(
                Alert.PORTAL_PAUSED, of=portal_id, portal_id=portal_id, stands=True, level=level, why=why
            )
        return first

    async def resume(self, portal_id: int) -> bool:
        """Let the portal's work go on; return whether it was paused."""
        self._known.pop(portal_id, None)
        self._breaker.answered(portal_id)
        resumed = bool(await self._redis.hdel(keys.PAUSED, str(portal_id)))  # type: ignore[misc]  # as above
        if resumed:
            await self._episodes.tell(Alert.PORTAL_PAUSED, of=portal_id, portal_id=portal_id, stands=False)
        return resumed

    async def pause_by_hand(self, portal_id: int, *, actor: str, reason: str, address: str = "") -> None:
        """Let the portal's work wait until somebody resumes it, also where something else has paused it already."""
        pause = Pause(OPERATOR, time.time())
        fields = orjson.dumps({"why": pause.why, "since": pause.since, "until": pause.until}).decode()
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hset(keys.PAUSED, str(portal_id), fields)
            append(pipeline, _by_hand(Action.PORTAL_PAUSED, portal_id, (actor, address), reason))
            await pipeline.execute()
        self._known[portal_id] = pause
        await self._episodes.tell(
            Alert.PORTAL_PAUSED, of=portal_id, portal_id=portal_id, stands=True, level="warning", why=OPERATOR
        )

    async def resume_by_hand(self, portal_id: int, *, actor: str, reason: str, address: str = "") -> bool:
        """Let the portal's work go on, whatever paused it; return whether it was paused."""
        resumed = await self.resume(portal_id)
        if resumed:
            async with self._redis.pipeline(transaction=True) as pipeline:
                append(pipeline, _by_hand(Action.PORTAL_RESUMED, portal_id, (actor, address), reason))
                await pipeline.execute()
        return resumed

    async def pauses(self) -> dict[int, Pause]:
        """Return what is paused, by portal."""
        found = await self._redis.hgetall(keys.PAUSED)  # type: ignore[misc]  # as above
        return {int(portal_id): Pause(**orjson.loads(fields)) for portal_id, fields in found.items()}

    async def watch(self) -> None:
        """Follow the pauses, and end those that are over, until cancelled."""
        while True:
            try:
                self._known = await self.pauses()
                for portal_id, pause in list(self._known.items()):
                    if await self._is_over(portal_id, pause):
                        await self.resume(portal_id)
            except (RedisError, OSError):
                pass  # the next look finds out; whoever needs Redis more says so
            await asyncio.sleep(_LOOK_S)

    async def _is_over(self, portal_id: int, pause: Pause) -> bool:
        if pause.until is not None:
            return time.time() >= pause.until
        if self._probe is None or not pause.wants_probe:
            return False
        if not await self._redis.set(keys.episode(portal_id, "probe"), 1, nx=True, ex=_PROBE_S):
            return False
        return await self._probe()


def _by_hand(action: Action, portal_id: int, who: tuple[str, str], reason: str) -> AuditRecord:
    actor, address = who
    detail = {"address": address} if address else {}
    return AuditRecord(action=action, portal_id=portal_id, actor=actor, reason=reason, detail=detail)
