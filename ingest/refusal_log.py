"""Aggregate refused requests for log and audit, so that forged requests cannot fill either."""

import time
from collections import Counter
from typing import Final

import structlog
from redis.asyncio import Redis

from ingest.failure_limit import FailureLimit
from spokes.audit.records import Action, AuditRecord, Outcome
from spokes.audit.stream import append_now
from spokes.core.masking import keyed_hash
from spokes.core.redis import keys
from spokes.core.refusals import Refusal
from spokes.core.telemetry.security_events import SecurityEvent, log_security_event

_RECORD_EVERY_S: Final = 10.0
_COUNTER_TTL_S: Final = 120
_WARN_EVERY_S: Final = 60  # over all processes
_SIGNATURE_REFUSALS: Final = frozenset(
    reason for reason in Refusal if reason.value.startswith(("signature", "timestamp"))
)
log = structlog.get_logger()


class RefusalLog:
    """Counts refused requests until the next record is written."""

    def __init__(self, redis: Redis, limit: FailureLimit, key: bytes) -> None:
        """`key` hashes addresses: they are personal data, and Redis only has to tell them apart."""
        self._redis = redis
        self._limit = limit
        self._key = key
        self._reasons: Counter[str] = Counter()
        self._hubspot_reasons: Counter[str] = Counter()
        self._written_at = time.monotonic()

    def record(self, reason: Refusal, address: str, user_agent: str) -> Refusal:
        """Count a refusal; return the reason to answer with: TOO_MANY_FAILURES once the address exceeds the limit."""
        if reason in _SIGNATURE_REFUSALS:
            if user_agent.startswith("HubSpot"):
                self._hubspot_reasons[reason.value] += 1
            if self._limit.record_failure(address):
                reason = Refusal.TOO_MANY_FAILURES
        self._reasons[reason.value] += 1
        return reason

    async def flush(self) -> None:
        """Share the counts of failed signatures; every ten seconds, write the records too.

        Raises:
            RedisError, OSError: Redis does not answer; the next flush includes the counts of this one.
        """
        await self._share_counts()
        if time.monotonic() - self._written_at >= _RECORD_EVERY_S:
            await self.write_records()

    async def write_records(self) -> None:
        """Write the audit record of the counted refusals; warn about those of requests that look like HubSpot's."""
        reasons = self._reasons.copy()
        self._written_at = time.monotonic()
        if self._hubspot_reasons and await self._redis.set(keys.HUBSPOT_REFUSED, 1, nx=True, ex=_WARN_EVERY_S):
            hubspot_reasons, self._hubspot_reasons = self._hubspot_reasons, Counter()
            log.warning(
                "hubspot_requests_refused",
                reasons=dict(hubspot_reasons),
                advice="Requests that look like HubSpot's fail signature verification. Check that PUBLIC_URL is what "
                "HubSpot calls and HUBSPOT_CLIENT_SECRET the app's; `python -m spokes explain-signature` finds the "
                "cause.",
            )
        if reasons:
            record = AuditRecord(
                action=Action.REQUESTS_REFUSED, outcome=Outcome.REFUSED, portal_id=0, detail={"reasons": dict(reasons)}
            )
            await append_now(self._redis, record)
            self._reasons -= reasons
            log_security_event(SecurityEvent.REQUESTS_REFUSED, reasons=dict(reasons))

    async def _share_counts(self) -> None:
        """Add our counts of failed signatures to those in Redis, and read the totals of all processes."""
        counts = {keyed_hash(self._key, address): (address, count) for address, count in self._limit.drain().items()}
        if not counts:
            return
        async with self._redis.pipeline(transaction=False) as pipeline:
            for name, (_, count) in counts.items():
                key = keys.failed_signatures(self._limit.window, name)
                pipeline.incrby(key, count)
                pipeline.expire(key, _COUNTER_TTL_S)
            totals = (await pipeline.execute())[::2]
        self._limit.merge_totals(
            {address: int(total) for (address, _), total in zip(counts.values(), totals, strict=True)}
        )
