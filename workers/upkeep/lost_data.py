"""Notice within seconds that Redis has lost data of ours, report what, and restore what can be restored.

Losses are seen by three traces: the identity of the database is gone (FLUSHALL, a restart without persistence, a switch
to another server), the audit stream began again, or a job that this worker runs is in no queue. Other data
may be lost unnoticed; `workers.upkeep.gaps.lost_events` finds its events later.
"""

import secrets
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Self

from redis.asyncio import Redis

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core import clock
from spokes.core.json_reading.json_fields import read_bigint
from spokes.core.redis.deployment import database_state
from spokes.core.redis.keys import AUDIT_STREAM, DEPLOYMENT, JOB_KEY_PREFIX, QUEUES
from spokes.core.redis.scripts import read_script
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.gaps.gap import GapCause, MissedInterval
from spokes.gaps.reports import report_missed
from workers.queue.foreign_values import queue_jobs_again

MEASURE_EVERY_S: Final = 2.0
_MARGIN_MS: Final = 300_000  # by which an event may have occurred before its delivery was queued
_REPORTED_MS: Final = 24 * 3_600_000  # for which the alert stays active
_SCRIPT: Final = read_script(__file__, "lost_data.lua")


class Contents(NamedTuple):
    """What Redis held at one time.

    Attributes:
        identity: of the database; empty if it is unknown.
        is_new: whether this measurement gave the database its identity.
        deliveries: in both queues.
        oldest_due_ms: since when the oldest of them has been due, 0 without any.
        records: in the audit stream.
        records_added: as many as the stream ever had; -1 if unknown, as before Redis 7.
        has_unqueued_job: whether a job that this worker runs is in no queue.
        lost_at_ms: of the loss that was noticed last, 0 without one.
        at_ms: when it was measured.
    """

    identity: str
    is_new: bool
    deliveries: int
    oldest_due_ms: int
    records: int
    records_added: int
    has_unqueued_job: bool
    lost_at_ms: int
    at_ms: int

    @classmethod
    def from_answer(cls, answer: list[Any], at_ms: int) -> Self:
        """Return what the script returned."""
        identity, is_new, deliveries, oldest_due, records, added, unqueued, lost_at = answer
        return cls(
            identity.decode(errors="replace"), is_new == 1, deliveries, int(oldest_due), records, added, unqueued == 1,
            max(0, read_bigint(lost_at.decode(errors="replace")) or 0), at_ms,
        )  # fmt: skip

    def lost_before(self, earlier: "Contents") -> str:
        """Return what was lost since an earlier measurement: "everything", "audit_stream", "queue" or nothing."""
        if self.is_new and earlier.identity:
            return "everything"
        if 0 <= self.records_added < earlier.records_added:
            return "audit_stream"
        return "queue" if self.has_unqueued_job else ""


def missed_since(before: Contents, outage_ms: int) -> int:
    """Return since when events may be missing (epoch ms), if everything was lost after a measurement.

    Args:
        before: the measurement.
        outage_ms: for how long events of an outage of HubSpot are retried.
    """
    if before.oldest_due_ms > before.at_ms:  # nothing but retries: their events are older than that
        return before.at_ms - outage_ms
    return (before.oldest_due_ms or before.at_ms) - _MARGIN_MS


class LostData:
    """Compares what Redis holds with what it held before."""

    def __init__(self, redis: Redis, settings: Settings, running_jobs: Callable[[], list[str]]) -> None:
        """Watch `redis`; `running_jobs` returns the ids of the jobs that this worker runs."""
        self._redis = redis
        self._settings = settings
        self._running_jobs = running_jobs
        self._script = redis.register_script(_SCRIPT)
        self._episodes = AlertEpisodes(redis)
        self._before: Contents | None = None

    async def measure(self) -> None:
        """Measure once. After a loss, report it and restore what can be restored.

        Raises:
            RedisError, OSError: Redis does not answer; the next measurement notices the loss.
        """
        before, now_ms = self._before, clock.now_ms()
        job = next(iter(self._running_jobs()), "")
        args = (secrets.token_hex(8), job, f"{JOB_KEY_PREFIX}{job}")
        answer = await self._script(keys=[DEPLOYMENT, *QUEUES.values(), AUDIT_STREAM], args=args)
        now = Contents.from_answer(answer, now_ms)
        if before is not None and (lost := now.lost_before(before)):
            await self._report(lost, before)
        elif now.lost_at_ms and now_ms - now.lost_at_ms > _REPORTED_MS:
            await self._episodes.set_state(Alert.REDIS_DATA_LOST, is_active=False)
            await self._redis.hdel(DEPLOYMENT, "lost_at")  # type: ignore[misc]  # redis-py types one class for sync and async
        if now.identity:
            self._before = now

    async def _report(self, lost: str, before: Contents) -> None:
        if lost == "everything":
            await database_state(self._redis, self._settings)  # or another deployment could take possession
            since = missed_since(before, round(self._settings.outage_retry_hours * 3_600_000))
            await report_missed(
                self._redis, MissedInterval(since=since, until=clock.now_ms(), cause=GapCause.REDIS_DATA_LOST)
            )
        else:
            await queue_jobs_again(self._redis)
        await self._redis.hset(DEPLOYMENT, "lost_at", str(clock.now_ms()))  # type: ignore[misc]  # as above
        await self._episodes.set_state(
            Alert.REDIS_DATA_LOST, is_active=True, level="critical", lost=lost, deliveries=before.deliveries,
            audit_records=before.records, measured_at=before.at_ms,
        )  # fmt: skip
