"""Pauses of portals whose events cannot succeed now. Paused events wait in the queue without spending an attempt.

A rejected token pauses a portal until HubSpot accepts it again, a used-up daily limit until the limit is back, a move
between data centres until the time that HubSpot names, and repeated failures of HubSpot until it answers. One worker
at a time probes for that. An operator's pause ends only when an operator resumes the portal.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Self

import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.audit.alert_episodes import AlertEpisodes
from spokes.audit.bad_items import read_items
from spokes.audit.records import Action, AuditRecord
from spokes.audit.stream import append, append_now
from spokes.core import clock
from spokes.core.errors import DAILY_POLICY, CRMUnavailable, NotAuthorized, PortalMoving, RateLimited
from spokes.core.redis import keys
from spokes.core.redis.outage import RedisOutage
from spokes.core.telemetry.alerts import Alert
from spokes.crm.transport.backoffs import end_backoffs
from spokes.crm.transport.rate_budget import Backoff
from spokes.queue.known_portals import check_portal

OPERATOR: Final = "operator"
DAILY_LIMIT: Final = "daily_limit"
_POLL_S: Final = 1.0
_PROBE_INTERVAL_S: Final = 10
_DAILY_PAUSE_S: Final = 900.0  # the limit resets at midnight in the portal's time zone, which HubSpot does not disclose
_MOVING_PAUSE_S: Final = 300.0  # if HubSpot names no time; a move takes up to a day
_FAILURE_THRESHOLD: Final = 5  # failures in a row that open the circuit breaker
_FAILURE_WINDOW_S: Final = 1.0  # one outage fails many events at once; failures within this time count as one
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class PortalPause:
    """Why a portal is paused, since when, and until when if that is known; epoch seconds."""

    reason: str
    since: float
    until: float | None = None

    def to_json(self) -> bytes:
        """Return the form stored in Redis."""
        return orjson.dumps({"why": self.reason, "since": self.since, "until": self.until})

    @classmethod
    def from_json(cls, stored: bytes) -> Self:
        """Parse the form stored in Redis; a later version may store `reason` in place of `why`."""
        fields = orjson.loads(stored)
        reason, until = fields["why"] if "why" in fields else fields["reason"], fields.get("until")
        return cls(str(reason), float(fields.get("since", 0.0)), None if until is None else float(until))

    @property
    def needs_probe(self) -> bool:
        """Whether only a call to HubSpot shows that the pause can end."""
        return self.reason != OPERATOR and self.until is None


def resumption_note(pause: PortalPause) -> str:
    """Return what may pause the portal again after an operator has resumed it; empty if nothing of ours will."""
    match pause.reason:
        case "operator":
            return ""
        case "daily_limit":
            return "If its daily limit is still used up, HubSpot refuses the next call and the portal is paused again."
        case PortalMoving.reason:
            return "If HubSpot is still moving it, the next call fails and the portal is paused again."
        case NotAuthorized.reason:
            return "If HubSpot still rejects the access token, the next call pauses the portal again."
        case _:
            return "If HubSpot's calls still fail, the portal is paused again."


class CircuitBreaker:
    """Counts HubSpot's failures in a row, per portal. Pure: the clock is an argument."""

    def __init__(self) -> None:
        self._failures: dict[int, tuple[int, float]] = {}  # the number of failures and the time of the last one

    def record_failure(self, portal_id: int, now: float) -> bool:
        """Count a failure; return whether the breaker opens."""
        count, last = self._failures.get(portal_id, (0, -_FAILURE_WINDOW_S))
        if now - last < _FAILURE_WINDOW_S:
            return False
        self._failures[portal_id] = (count + 1, now)
        return count + 1 >= _FAILURE_THRESHOLD

    def record_success(self, portal_id: int) -> None:
        """Reset the count, because HubSpot answered."""
        self._failures.pop(portal_id, None)


class PortalPauses:
    """The pauses of all portals, shared by all workers."""

    def __init__(self, redis: Redis, probe: Callable[[], Awaitable[bool]] | None = None, *, token: str = "") -> None:
        """Keep pauses in `redis`; `probe` returns whether HubSpot answers and accepts our token.

        `token` is its fingerprint: each token is probed at its own intervals, or refused ones would delay a new one.
        """
        self._redis = redis
        self._probe = probe
        self._probe_name = f"probe:{token}" if token else "probe"
        self._episodes = AlertEpisodes(redis)
        self._breaker = CircuitBreaker()
        self._paused: dict[int, PortalPause] = {}

    def is_paused(self, portal_id: int) -> bool:
        """Return whether the portal was paused when this process last read the pauses."""
        return portal_id in self._paused

    async def record_result(self, portal_id: int, error: BaseException | None) -> None:
        """Pause the portal if an event's error calls for it; None means that the event's calls succeeded."""
        match error:
            case NotAuthorized():
                await self.pause(portal_id, error.reason)
            case RateLimited(policy=policy) if policy == DAILY_POLICY:
                await self.pause(portal_id, DAILY_LIMIT, seconds=error.retry_after_s or _DAILY_PAUSE_S)
            case PortalMoving():
                await self.pause(portal_id, error.reason, seconds=error.retry_after_s or _MOVING_PAUSE_S)
            case CRMUnavailable() if error.status != 0 or error.retry_after_s is None:
                if self._breaker.record_failure(portal_id, time.monotonic()):
                    await self.pause(portal_id, error.reason)
            case _:
                self._breaker.record_success(portal_id)

    async def record_backoff(self, portal_id: int, backoff: Backoff) -> None:
        """Pause the portal while a long backoff of its calls lasts, whoever made the call that HubSpot refused."""
        reason = DAILY_LIMIT if backoff.reason == DAILY_POLICY else backoff.reason
        await self.pause(portal_id, reason if reason.islower() else RateLimited.reason, seconds=backoff.seconds)

    async def pause(self, portal_id: int, reason: str, *, seconds: float | None = None) -> bool:
        """Pause the portal and alert; return False if it was paused already."""
        if portal_id in self._paused:
            return False
        now = clock.now_s()
        pause = PortalPause(reason, now, None if seconds is None else now + seconds)
        self._paused[portal_id] = pause
        is_new = bool(await self._redis.hsetnx(keys.PAUSED_PORTALS, str(portal_id), pause.to_json()))  # type: ignore[misc,arg-type]  # redis-py types one class for sync and async, and forgets bytes
        if is_new:
            await self._set_alert(portal_id, reason)
        return is_new

    async def resume(self, portal_id: int) -> bool:
        """Resume the portal; return whether it was paused."""
        self._paused.pop(portal_id, None)
        self._breaker.record_success(portal_id)
        was_paused = bool(await self._redis.hdel(keys.PAUSED_PORTALS, str(portal_id)))  # type: ignore[misc]  # as above
        if was_paused:
            await self._episodes.set_state(Alert.PORTAL_PAUSED, subject=portal_id, portal_id=portal_id, is_active=False)
        return was_paused

    async def operator_pause(self, portal_id: int, *, actor: str, reason: str, address: str = "") -> None:
        """Pause the portal until an operator resumes it; this replaces any other pause.

        Raises:
            UnknownPortal: the portal is not of this deployment.
        """
        await check_portal(self._redis, portal_id)
        pause = PortalPause(OPERATOR, clock.now_s())
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hset(keys.PAUSED_PORTALS, str(portal_id), pause.to_json().decode())
            append(pipeline, _operator_record(Action.PORTAL_PAUSED, portal_id, (actor, address), reason))
            await pipeline.execute()
        self._paused[portal_id] = pause
        await self._set_alert(portal_id, OPERATOR)

    async def operator_resume(self, portal_id: int, *, actor: str, reason: str, address: str = "") -> bool:
        """End all that holds the portal's work back, backoffs of its calls included; return whether it was paused."""
        await end_backoffs(self._redis, portal_id)
        was_paused = await self.resume(portal_id)
        if was_paused:
            record = _operator_record(Action.PORTAL_RESUMED, portal_id, (actor, address), reason)
            await append_now(self._redis, record)
        return was_paused

    async def list(self) -> dict[int, PortalPause]:
        """Return the pauses by portal."""
        stored = await self._redis.hgetall(keys.PAUSED_PORTALS)  # type: ignore[misc]  # as above
        pauses = await read_items(
            self._redis, "pause", stored.items(), lambda item: (int(item[0]), PortalPause.from_json(item[1]))
        )
        return dict(pauses)

    async def refresh(self) -> None:
        """Read the pauses, and end those that are over.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        self._paused = await self.list()
        for portal_id, pause in list(self._paused.items()):
            if await self._has_ended(portal_id, pause):
                await self.resume(portal_id)

    async def watch(self, outage: RedisOutage, task: str) -> None:
        """Read the pauses and end those that are over, until cancelled; `task` waits out an outage of Redis."""
        while True:
            try:
                await self.refresh()
            except (RedisError, OSError) as error:
                await outage.wait(error, task)
                continue
            outage.mark_available(task)
            await asyncio.sleep(_POLL_S)

    async def _has_ended(self, portal_id: int, pause: PortalPause) -> bool:
        if pause.until is not None:
            return clock.now_s() >= pause.until
        if self._probe is None or not pause.needs_probe:
            return False
        if not await self._redis.set(keys.alert_once(portal_id, self._probe_name), 1, nx=True, ex=_PROBE_INTERVAL_S):
            return False
        return await self._probe()

    async def _set_alert(self, portal_id: int, reason: str) -> None:
        level = "warning" if reason == OPERATOR else "error"
        await self._episodes.set_state(
            Alert.PORTAL_PAUSED, subject=portal_id, portal_id=portal_id, is_active=True, level=level, why=reason
        )


def _operator_record(action: Action, portal_id: int, operator: tuple[str, str], reason: str) -> AuditRecord:
    actor, address = operator
    detail = {"address": address} if address else {}
    return AuditRecord(action=action, portal_id=portal_id, actor=actor, reason=reason, detail=detail)
