"""Refused requests, added up. Rule: a forger fills neither log nor audit."""

import asyncio
import time
from collections import Counter
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ingest.failure_limit import FailureLimit
from spokes.audit.records import Action, AuditRecord, Outcome
from spokes.audit.stream import append
from spokes.core.masking import keyed_hash
from spokes.core.refusals import Refusal
from spokes.core.telemetry.security_events import SecurityEvent, log_security_event
from spokes.intake.backpressure import wait_for_stop

_FLUSH_EVERY_S: Final = 1.0
_RECORD_EVERY_S: Final = 10.0
_COUNTER_TTL_S: Final = 120
_WARN_EVERY_S: Final = 60  # of all processes together
_WARNED_KEY: Final = "spokes:hubspot_refused"
_SIGNATURE_REFUSALS: Final = frozenset(
    reason for reason in Refusal if reason.value.startswith(("signature", "timestamp"))
)
log = structlog.get_logger()


class RefusalLog:
    """What the door refused since it last told."""

    def __init__(self, redis: Redis, limit: FailureLimit, key: bytes) -> None:
        """`key` hashes addresses: they are personal, and Redis need only tell them apart."""
        self._redis = redis
        self._limit = limit
        self._key = key
        self._reasons: Counter[str] = Counter()
        self._hubspot_reasons: Counter[str] = Counter()
        self._written_at = time.monotonic()

    def record(self, reason: Refusal, address: str, user_agent: str) -> Refusal:
        """Count a refusal; return the reason to answer with, which is another once an address failed too often."""
        if reason in _SIGNATURE_REFUSALS:
            if user_agent.startswith("HubSpot"):
                self._hubspot_reasons[reason.value] += 1
            if self._limit.record_failure(address):
                reason = Refusal.TOO_MANY_FAILURES
        self._reasons[reason.value] += 1
        return reason

    async def run(self, stop: asyncio.Event) -> None:
        """Share counts and tell of them until `stop` is set; Redis being down only delays it."""
        while not stop.is_set():
            await wait_for_stop(stop, _FLUSH_EVERY_S)
            try:
                await self._flush()
                if time.monotonic() - self._written_at >= _RECORD_EVERY_S:
                    await self.write_records()
            except (RedisError, OSError):
                log.warning("refusals_not_shared")

    async def write_records(self) -> None:
        """Write the record of what was refused, and the warning that an integrator needs most."""
        reasons = self._reasons.copy()
        self._written_at = time.monotonic()
        if self._hubspot_reasons and await self._redis.set(_WARNED_KEY, 1, nx=True, ex=_WARN_EVERY_S):
            suspects, self._hubspot_reasons = self._hubspot_reasons, Counter()
            log.warning(
                "hubspot_requests_refused",
                reasons=dict(suspects),
                advice="Requests that look like HubSpot's fail their signature. Is PUBLIC_URL what HubSpot calls, and "
                "HUBSPOT_CLIENT_SECRET the app's? `python -m spokes explain-signature` finds out.",
            )
        if reasons:
            record = AuditRecord(
                action=Action.REQUESTS_REFUSED, outcome=Outcome.REFUSED, portal_id=0, detail={"reasons": dict(reasons)}
            )
            async with self._redis.pipeline(transaction=True) as pipeline:
                append(pipeline, record)
                await pipeline.execute()
            self._reasons -= reasons
            log_security_event(SecurityEvent.REQUESTS_REFUSED, reasons=dict(reasons))

    async def _flush(self) -> None:
        """Add our counts to everybody's, and learn everybody's."""
        ours = {keyed_hash(self._key, address): (address, count) for address, count in self._limit.drain().items()}
        if not ours:
            return
        async with self._redis.pipeline(transaction=False) as pipeline:
            for name, (_, count) in ours.items():
                pipeline.incrby(f"spokes:failures:{self._limit.window}:{name}", count)
                pipeline.expire(f"spokes:failures:{self._limit.window}:{name}", _COUNTER_TTL_S)
            totals = (await pipeline.execute())[::2]
        self._limit.merge_totals(
            {address: int(total) for (address, _), total in zip(ours.values(), totals, strict=True)}
        )
