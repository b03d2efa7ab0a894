"""Pauses of portals whose events cannot succeed now. Paused events wait in the queue without spending an attempt.

A rejected token pauses a portal until HubSpot accepts it again, a used-up daily limit until the limit is back, a move
between data centres until the time that HubSpot names. One worker at a time probes whether the token is accepted. An
operator's pause ends only when an operator resumes the portal. Repeated failures pause one kind of call, not the
portal: see spokes/queue/pauses/call_pauses.py.
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

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.audit.alerts.bad_items import read_items
from spokes.audit.records import Action, AuditRecord
from spokes.audit.stream import append, append_now
from spokes.core import clock
from spokes.core.errors import CRMError, CRMUnavailable, NotAuthorized, PortalMoving, TransientCRMError
from spokes.core.redis import keys
from spokes.core.redis.outage import RedisOutage
from spokes.core.telemetry.alerts import HOLD_DOWN_S, Alert
from spokes.crm.transport.backoffs import end_backoffs
from spokes.http.errors import HttpUnavailable, TransientHttpError
from spokes.queue.held_deliveries import ALL_CALLS, Calls
from spokes.queue.known_portals import check_portal
from spokes.queue.pauses.call_pauses import CallPauses
from spokes.queue.pauses.pause_decisions import PauseDecision, pause_for_error
from spokes.queue.pauses.restored_pauses import read_or_restore

OPERATOR: Final = "operator"
_POLL_S: Final = 1.0
_PROBE_INTERVAL_S: Final = 10
_REFUSAL_MEMORY_S: Final = 600.0  # a 401 so soon after a pause that the token check ended is not about the token
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


def resumption_note(pause: PortalPause | None) -> str:
    """Return what may pause the portal again after an operator has ended its pause, None if only calls were paused."""
    match pause.reason if pause else "":
        case "operator":
            return ""
        case "daily_limit":
            return "If its daily limit is still used up, HubSpot refuses the next call and the portal is paused again."
        case PortalMoving.reason:
            return "If HubSpot is still moving it, the next call fails and the portal is paused again."
        case NotAuthorized.reason:
            return "If HubSpot still rejects the access token, the next call pauses the portal again."
        case _:
            return "If HubSpot's calls still fail, they are paused again."


class PortalPauses:
    """The pauses of all portals, shared by all workers."""

    def __init__(self, redis: Redis, probe: Callable[[int], Awaitable[bool]] | None = None, *, token: str = "") -> None:
        """Keep pauses in `redis`; `probe` returns whether HubSpot answers and accepts a portal's token.

        `token` is its fingerprint: each token is probed at its own intervals, or refused ones would delay a new one.
        """
        self._redis = redis
        self._probe = probe
        self._probe_name = f"probe:{token}" if token else "probe"
        self._episodes = AlertEpisodes(redis)
        self.calls = CallPauses(redis)
        self._paused: dict[int, PortalPause] = {}
        self._refused_at: dict[int, float] = {}  # in seconds of the monotonic clock

    def note_refusal(self, portal_id: int) -> None:
        """Note that HubSpot refuses calls of the portal with 401."""
        self._refused_at[portal_id] = time.monotonic()

    def was_refused_lately(self, portal_id: int) -> bool:
        """Return whether `note_refusal` was called, or the portal was paused by a 401, some minutes ago at most."""
        return time.monotonic() - self._refused_at.get(portal_id, -_REFUSAL_MEMORY_S) < _REFUSAL_MEMORY_S

    def is_paused(self, portal_id: int) -> bool:
        """Return whether the portal was paused when this process last read the pauses."""
        return portal_id in self._paused

    async def record_error(self, portal_id: int, error: BaseException, handler: str = "", subject: str = "") -> None:
        """Pause what cannot succeed after an error of `handler`, which ran for an event of the object `subject`."""
        if isinstance(error, CRMError | TransientHttpError) and error.call_kind:
            self.calls.note_caller(error.call_kind, handler)
        if decision := pause_for_error(error):
            await self._carry_out(portal_id, decision)
        elif isinstance(error, CRMUnavailable | HttpUnavailable):
            await self.calls.record_failure(portal_id, error, subject)

    async def record_backoff(self, portal_id: int, error: TransientCRMError, seconds: float) -> None:
        """Pause what waits for a long backoff, whoever made the call that HubSpot refused."""
        if decision := pause_for_error(error, seconds):
            await self._carry_out(portal_id, decision)

    async def _carry_out(self, portal_id: int, decision: PauseDecision) -> None:
        if decision.call_kind:
            # A wait that the server names ends a refusal for good, but not a failure.
            failed_probes = 0 if decision.reason in {CRMUnavailable.reason, HttpUnavailable.reason} else None
            calls = Calls(portal_id, decision.call_kind)
            await self.calls.pause(calls, decision.reason, decision.seconds or 0.0, failed_probes=failed_probes)
        else:
            await self.pause(portal_id, decision.reason, seconds=decision.seconds)

    async def pause(self, portal_id: int, reason: str, *, seconds: float | None = None) -> bool:
        """Pause the portal and alert; return False if it was paused already."""
        if portal_id in self._paused:
            return False
        now = clock.now_s()
        pause = PortalPause(reason, now, None if seconds is None else now + seconds)
        self._paused[portal_id] = pause
        if reason == NotAuthorized.reason:
            self.note_refusal(portal_id)
        is_new = bool(await self._redis.hsetnx(keys.PAUSED_PORTALS, str(portal_id), pause.to_json()))  # type: ignore[misc,arg-type]  # redis-py types one class for sync and async, and forgets bytes
        if is_new:
            await self._set_alert(portal_id, reason, seconds)
        return is_new

    async def resume(self, portal_id: int) -> bool:
        """Resume the portal; return whether it was paused."""
        self._paused.pop(portal_id, None)
        was_paused = bool(await self._redis.hdel(keys.PAUSED_PORTALS, str(portal_id)))  # type: ignore[misc]  # as above
        if was_paused:
            await self._episodes.set_state(Alert.PORTAL_PAUSED, subject=portal_id, portal_id=portal_id, is_active=False)
            await self.calls.held.release(Calls(portal_id, ALL_CALLS))
        return was_paused

    async def operator_pause(
        self, portal_id: int, *, actor: str, reason: str, address: str = "", is_known: bool = False
    ) -> None:
        """Pause the portal until an operator resumes it; this replaces any other pause.

        Raises:
            UnknownPortal: the portal is not of this deployment; not checked if it `is_known`.
        """
        if not is_known:
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
        ended_calls = await self.calls.end_all(portal_id)
        was_paused = await self.resume(portal_id) or bool(ended_calls)
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
        """Read the pauses, end those that are over, and make due what waited for the end of a pause.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        waited_for = await self.calls.held.waited_for()  # before the pauses, so that none of a new pause is released
        known = {str(portal_id): pause.to_json() for portal_id, pause in self._paused.items()}
        self._paused = await read_or_restore(self._redis, keys.PAUSED_PORTALS, self.list, known)
        for portal_id, pause in list(self._paused.items()):
            if pause.reason == NotAuthorized.reason:
                self.note_refusal(portal_id)
            if await self._has_ended(portal_id, pause):
                await self.resume(portal_id)
        await self.calls.refresh()
        paused = {*self.calls.paused, *((portal_id, ALL_CALLS) for portal_id in self._paused)}
        for calls in waited_for:
            if calls not in paused:  # any process may have ended the pause, and died
                await self.calls.held.release(calls)

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
        return await self._probe(portal_id)

    async def _set_alert(self, portal_id: int, reason: str, seconds: float | None = None) -> None:
        level = "warning" if reason == OPERATOR else "error"
        is_lasting = reason in {OPERATOR, NotAuthorized.reason} or (seconds or 0) >= HOLD_DOWN_S[Alert.PORTAL_PAUSED]
        await self._episodes.set_state(
            Alert.PORTAL_PAUSED, subject=portal_id, portal_id=portal_id, is_active=True, level=level,
            at_once=is_lasting, why=reason,
        )  # fmt: skip


def _operator_record(action: Action, portal_id: int, operator: tuple[str, str], reason: str) -> AuditRecord:
    actor, address = operator
    detail = {"address": address} if address else {}
    return AuditRecord(action=action, portal_id=portal_id, actor=actor, reason=reason, detail=detail)
