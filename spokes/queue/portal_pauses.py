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

from spokes.audit.alert_episodes import AlertEpisodes
from spokes.audit.records import Action, AuditRecord
from spokes.audit.stream import append
from spokes.core.errors import DAILY_POLICY, CRMUnavailable, NotAuthorized, RateLimited
from spokes.core.redis import keys
from spokes.core.telemetry.alerts import Alert

OPERATOR: Final = "operator"
_POLL_S: Final = 1.0
_PROBE_INTERVAL_S: Final = 10
_DAILY_PAUSE_S: Final = 900.0  # HubSpot's day ends at midnight in the portal's own time zone, which it does not tell
_FAILURE_THRESHOLD: Final = 5  # in a row open the breaker
_FAILURE_WINDOW_S: Final = 1.0  # of one failing moment many events tell; they count as one
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class PortalPause:
    """Why a portal's work waits, since when, and until when if that is known; epoch seconds."""

    reason: str
    since: float
    until: float | None = None

    @classmethod
    def from_json(cls, stored: bytes) -> "PortalPause":
        """Read a pause as it is stored; the reason is stored under `why`."""
        fields = orjson.loads(stored)
        return cls(fields["why"], fields["since"], fields.get("until"))

    def to_json(self) -> bytes:
        """Return the form in which a pause is stored."""
        return orjson.dumps({"why": self.reason, "since": self.since, "until": self.until})

    @property
    def needs_probe(self) -> bool:
        """Whether asking HubSpot tells when it is over."""
        return self.reason != OPERATOR and self.until is None


class CircuitBreaker:
    """Counts how often HubSpot failed in a row, by portal. Pure: the clock is an argument."""

    def __init__(self) -> None:
        self._failures: dict[int, tuple[int, float]] = {}  # how many, and when the last one was

    def record_failure(self, portal_id: int, now: float) -> bool:
        """Count a failure; return whether it is one too many."""
        count, last = self._failures.get(portal_id, (0, -_FAILURE_WINDOW_S))
        if now - last < _FAILURE_WINDOW_S:
            return False
        self._failures[portal_id] = (count + 1, now)
        return count + 1 >= _FAILURE_THRESHOLD

    def record_success(self, portal_id: int) -> None:
        """HubSpot has answered."""
        self._failures.pop(portal_id, None)


class PortalPauses:
    """The pauses of all portals, as all workers share them."""

    def __init__(self, redis: Redis, probe: Callable[[], Awaitable[bool]] | None = None) -> None:
        """Keep pauses in `redis`; `probe` returns whether HubSpot answers and knows our token."""
        self._redis = redis
        self._probe = probe
        self._episodes = AlertEpisodes(redis)
        self._breaker = CircuitBreaker()
        self._paused: dict[int, PortalPause] = {}

    def is_paused(self, portal_id: int) -> bool:
        """Return whether the portal was paused when this process last looked."""
        return portal_id in self._paused

    async def record_result(self, portal_id: int, error: BaseException | None) -> None:
        """Draw the conclusion from one event's use of HubSpot; None is success."""
        match error:
            case NotAuthorized():
                await self.pause(portal_id, error.reason)
            case RateLimited(policy=policy) if policy == DAILY_POLICY:
                await self.pause(portal_id, "daily_limit", seconds=error.retry_after_s or _DAILY_PAUSE_S)
            case CRMUnavailable() if error.status != 0 or error.retry_after_s is None:
                if self._breaker.record_failure(portal_id, time.monotonic()):
                    await self.pause(portal_id, error.reason)
            case _:
                self._breaker.record_success(portal_id)

    async def pause(self, portal_id: int, reason: str, *, seconds: float | None = None) -> bool:
        """Let the portal's work wait; return whether it was not paused before. The first pause alerts."""
        if portal_id in self._paused:
            return False
        now = time.time()
        pause = PortalPause(reason, now, None if seconds is None else now + seconds)
        self._paused[portal_id] = pause
        first = bool(await self._redis.hsetnx(keys.PAUSED_PORTALS, str(portal_id), pause.to_json()))  # type: ignore[misc,arg-type]  # redis-py types one class for sync and async, and forgets bytes
        if first:
            level = "warning" if reason == OPERATOR else "error"
            await self._episodes.set_state(
                Alert.PORTAL_PAUSED, subject=portal_id, portal_id=portal_id, is_active=True, level=level, why=reason
            )
        return first

    async def resume(self, portal_id: int) -> bool:
        """Let the portal's work go on; return whether it was paused."""
        self._paused.pop(portal_id, None)
        self._breaker.record_success(portal_id)
        resumed = bool(await self._redis.hdel(keys.PAUSED_PORTALS, str(portal_id)))  # type: ignore[misc]  # as above
        if resumed:
            await self._episodes.set_state(Alert.PORTAL_PAUSED, subject=portal_id, portal_id=portal_id, is_active=False)
        return resumed

    async def operator_pause(self, portal_id: int, *, actor: str, reason: str, address: str = "") -> None:
        """Let the portal's work wait until somebody resumes it, also where something else has paused it already."""
        pause = PortalPause(OPERATOR, time.time())
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hset(keys.PAUSED_PORTALS, str(portal_id), pause.to_json().decode())
            append(pipeline, _operator_record(Action.PORTAL_PAUSED, portal_id, (actor, address), reason))
            await pipeline.execute()
        self._paused[portal_id] = pause
        await self._episodes.set_state(
            Alert.PORTAL_PAUSED, subject=portal_id, portal_id=portal_id, is_active=True, level="warning", why=OPERATOR
        )

    async def operator_resume(self, portal_id: int, *, actor: str, reason: str, address: str = "") -> bool:
        """Let the portal's work go on, whatever paused it; return whether it was paused."""
        resumed = await self.resume(portal_id)
        if resumed:
            async with self._redis.pipeline(transaction=True) as pipeline:
                append(pipeline, _operator_record(Action.PORTAL_RESUMED, portal_id, (actor, address), reason))
                await pipeline.execute()
        return resumed

    async def list(self) -> dict[int, PortalPause]:
        """Return what is paused, by portal."""
        found = await self._redis.hgetall(keys.PAUSED_PORTALS)  # type: ignore[misc]  # as above
        return {int(portal_id): PortalPause.from_json(fields) for portal_id, fields in found.items()}

    async def watch(self) -> None:
        """Follow the pauses, and end those that are over, until cancelled."""
        while True:
            try:
                self._paused = await self.list()
                for portal_id, pause in list(self._paused.items()):
                    if await self._has_ended(portal_id, pause):
                        await self.resume(portal_id)
            except (RedisError, OSError):
                pass  # the next look finds out; whoever needs Redis more says so
            await asyncio.sleep(_POLL_S)

    async def _has_ended(self, portal_id: int, pause: PortalPause) -> bool:
        if pause.until is not None:
            return time.time() >= pause.until
        if self._probe is None or not pause.needs_probe:
            return False
        if not await self._redis.set(keys.alert_once(portal_id, "probe"), 1, nx=True, ex=_PROBE_INTERVAL_S):
            return False
        return await self._probe()


def _operator_record(action: Action, portal_id: int, operator: tuple[str, str], reason: str) -> AuditRecord:
    actor, address = operator
    detail = {"address": address} if address else {}
    return AuditRecord(action=action, portal_id=portal_id, actor=actor, reason=reason, detail=detail)
