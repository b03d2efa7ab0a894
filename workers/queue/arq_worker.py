"""arq's worker on keys of our own, with Redis calls per batch of jobs instead of per job.

Idle workers are woken by a message; polling is the fallback. A Redis
outage is waited out. A job that this process could not finish is released, or its lease lapses, and it runs again.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any, Final

import structlog
from arq import Worker
from redis.exceptions import RedisError

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core import clock
from spokes.core.background import Background
from spokes.core.delivery import is_oversized, unread_argument
from spokes.core.priority import PRIORITIES, Priority
from spokes.core.redis import keys
from spokes.core.redis.errors import RedisFault, classify, first_word, is_refused_by_redis
from spokes.core.redis.keys import IN_PROGRESS_KEY_PREFIX, JOB_KEY_PREFIX, RETRY_KEY_PREFIX, WAKE_CHANNEL
from spokes.core.redis.outage import RedisOutage
from spokes.core.redis.scripts import FALSE_LEASE, read_script
from spokes.core.telemetry.setup import report_error
from workers.fairness.held_by_portal import HeldByPortal
from workers.queue.claim_gate import ClaimGate
from workers.queue.claimed_job import ClaimedJob, DeliveryEnd
from workers.queue.leases import Lease
from workers.queue.release import RELEASE
from workers.queue.room import Room, room_left

_CLAIM: Final = FALSE_LEASE + read_script(__file__, "claim.lua")
_QUEUES: Final = tuple(keys.QUEUES[priority] for priority in PRIORITIES)
_CLAIM_KEYS: Final = (keys.PAUSED_PORTALS, keys.PREFERRED_WORKER, keys.HELD_SETS, *_QUEUES)
_PAUSED_DELAY_MS: Final = 600_000  # for jobs of a paused portal if nothing makes them due: the end of the pause does
_FAILED_DELAY_MS: Final = 1_000  # until a job that failed by an error of ours runs again
_PUBSUB_TIMEOUT_S: Final = 10.0
_REFUSED_WAKEUPS_S: Final = 600.0  # polling replaces them
_PROBE_EVERY_S: Final = 0.1  # without room, and at a random place of the queue: for portals behind others' backlogs
_POSTPONE_S: Final = 0.5  # until another worker may claim a delivery that a Redis outage interrupted
_CLAIMS: Final = "claims"
_WAKEUPS: Final = "wakeups"
_UNREAD_FROM_TRY: Final = 3  # an oversized job whose workers died is set aside without being read once more
log = structlog.get_logger()


class ArqBatchWorker(Worker):
    """Claims jobs for all free capacity in one call, and runs each in a task of its own."""

    def __init__(
        self,
        *,
        holder: str,
        lease_ms: int,
        outage: RedisOutage,
        gate: ClaimGate,
        free_capacity: Callable[[], Room],
        skipped_portals: Callable[[], Iterable[int]] = tuple,
        are_calls_scarce: Callable[[], bool] = bool,
        run_job: Callable[[ClaimedJob], Coroutine[Any, Any, DeliveryEnd]],
        settle_failed: Callable[[ClaimedJob, Exception], Coroutine[Any, Any, DeliveryEnd | None]],
        **options: Any,
    ) -> None:
        """Take arq's own options, and ours.

        Args:
            holder: our name, which no other process has.
            lease_ms: how long a job stays ours without a renewal.
            outage: shared by everything in this process.
            gate: whether to claim at all.
            free_capacity: how many more events may be claimed.
            skipped_portals: whose jobs are left to other workers.
            are_calls_scarce: whether events should share calls rather than workers.
            run_job: runs a claimed job, in place of arq's own call of `functions`.
            settle_failed: ends a job that failed by an error of ours, or returns None to have it run again.
            options: arq's.
        """
        super().__init__(**options)
        self.holder = holder
        self._lease_ms = lease_ms
        self._outage = outage
        self._gate = gate
        self._free_capacity = free_capacity
        self._skipped_portals = skipped_portals
        self._are_calls_scarce = are_calls_scarce
        self._run_claimed = run_job
        self._settle_failed = settle_failed
        self._claim = self.pool.register_script(_CLAIM)
        self._release = self.pool.register_script(RELEASE)
        self._wake = asyncio.Event()
        self.started_at: dict[str, int] = {}  # epoch ms, of the jobs that run
        self._held_jobs: dict[Priority, int] = dict.fromkeys(PRIORITIES, 0)
        self._held_by_portal = HeldByPortal()
        self._next_probe = 0.0  # on the loop's clock
        self._is_drained = False  # in burst mode: the queue is empty

    def leases(self) -> list[Lease]:
        """Return the leases of the jobs that run."""
        return [Lease(IN_PROGRESS_KEY_PREFIX + job_id, self.holder, may_reacquire=True) for job_id in self.tasks]

    async def main(self) -> None:
        """Run as arq's worker does, once Redis answers, but without arq's optional start-up calls to Redis."""
        await self._wait_for_redis()
        background = Background(self._outage, AlertEpisodes(self.pool).report_once)
        background.start(_WAKEUPS, self._listen_for_wakeups)
        try:
            self.ctx["redis"] = self.pool
            await self._start_up()
            while not self._is_drained:
                await self._poll_iteration()
        finally:
            await background.close()

    async def run_due_jobs(self) -> None:
        """Run the jobs that are due, and return when none is due and none runs; for the tests of handlers."""
        if not self.ctx:
            self.ctx["redis"] = self.pool
            await self._start_up()
        while True:
            self._wake.clear()
            wait_s = await self._claim_jobs()
            if self.tasks:
                await self._wake.wait()
            elif wait_s > 0:
                return

    async def close(self) -> None:
        """Close as arq's worker does, also during a Redis outage: everything open is closed all the same."""
        if self._outage.is_unusable:
            for task in self.tasks.values():
                task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        with suppress(RedisError, OSError):
            await self.pool.delete(self.health_check_key)
        if self.on_shutdown:
            await self.on_shutdown(self.ctx)
        await self.pool.aclose(close_connection_pool=True)

    async def _poll_iteration(self) -> None:
        """Claim jobs until the poll delay is over, or in burst mode until the queue is empty."""
        if not self.allow_pick_jobs and not self.tasks:
            # Shutdown was requested and all jobs are done. arq cancels us once, which wait_for of Python 3.11 may lose.
            raise asyncio.CancelledError
        deadline = self.loop.time() + self.poll_delay_s
        try:
            while (left_s := deadline - self.loop.time()) > 0:
                self._wake.clear()
                due_s = await self._claim_jobs() if self.allow_pick_jobs else left_s
                if self.burst and not self.tasks and not await self._queued_count():
                    self._is_drained = True
                    break
                if due_s > 0:
                    with suppress(TimeoutError):
                        # wait_for loses a cancellation that arrives together with the event it waits for.
                        async with asyncio.timeout(min(due_s, max(0.0, deadline - self.loop.time()))):
                            await self._wake.wait()
            with suppress(RedisError, OSError):  # arq's health check is a SET, which a full Redis refuses
                await self.heart_beat()
        except (RedisError, OSError) as error:
            await self._outage.wait(error, _CLAIMS)
        self._outage.raise_if_unusable()

    async def _claim_jobs(self) -> float:
        """Claim jobs for all free capacity; return the seconds until there may be more to claim."""
        if not self._gate.is_open:
            return self.poll_delay_s
        jobs_room, events_room = self._room()
        probe_due_s, probe = self._next_probe - self.loop.time(), -1.0
        if probe_due_s <= 0:
            probe, probe_due_s = random.random(), _PROBE_EVERY_S
            self._next_probe = self.loop.time() + _PROBE_EVERY_S
        elif not _has_room(jobs_room, events_room):
            return probe_due_s  # the end of a job wakes us too
        now_ms = clock.now_ms()
        args: list[str | float] = [now_ms, self._lease_ms, self.holder, _PAUSED_DELAY_MS]
        args += (",".join(map(str, self._skipped_portals())), int(self._are_calls_scarce()))
        args += (jobs_room.total, events_room.total)
        args += (*self._held_by_portal.reserve(jobs_room.limit, events_room.limit), str(self._held_by_portal), probe)
        for each in PRIORITIES:
            args += (jobs_room.of(each), events_room.of(each))
        next_ms, has_more, jobs = await self._claim(keys=_CLAIM_KEYS, args=args)
        self._outage.mark_available(_CLAIMS)
        for job_key, payload, attempt, queue, events in jobs:
            job_id, priority = job_key.decode(), PRIORITIES[queue - 1]
            if job_id not in self.tasks:  # otherwise its lease lapsed in an outage, and it still runs here
                self.started_at[job_id] = now_ms
                self._held_jobs[priority] += 1
                portal = self._held_by_portal.add(job_id, events)
                run = self._run_job(job_id, payload, attempt, priority, portal=portal, events=events)
                self.tasks[job_id] = self.loop.create_task(run)
        await asyncio.sleep(0)  # the new tasks reserve their capacity before we ask for what is left
        jobs_room, events_room = self._room()
        for each, more in zip(PRIORITIES, has_more, strict=True):
            if more and jobs_room.of(each) and events_room.of(each):  # the jobs were smaller than estimated
                return 0.0
        wait_s = self.poll_delay_s if next_ms < 0 else next_ms / 1000
        return wait_s if _has_room(jobs_room, events_room) else min(wait_s, probe_due_s)

    def _room(self) -> tuple[Room, Room]:
        """Return how many more jobs and events may be claimed."""
        return room_left(self.max_jobs, self._held_jobs), self._free_capacity()

    async def _queued_count(self) -> int:
        return sum([await self.pool.zcard(queue) for queue in keys.QUEUES.values()])

    async def _run_job(
        self, job_id: str, payload: bytes | None, attempt: int, priority: Priority, *, portal: str, events: int
    ) -> None:
        argument: Any = None
        try:
            if attempt >= _UNREAD_FROM_TRY and is_oversized(payload or b""):
                argument = unread_argument(payload or b"")
            else:
                argument = self.job_deserializer(payload or b"")["a"][0]  # type: ignore[misc]  # arq makes it optional; ours reads anything
            await self._end_job(job_id, await self._run_claimed(ClaimedJob(job_id, argument, attempt, priority)))
        except asyncio.CancelledError:
            await asyncio.shield(self._release_job(job_id))
            self.jobs_retried += 1
        except Exception as error:
            self.jobs_failed += 1
            if is_refused_by_redis(error):
                await asyncio.sleep(_POSTPONE_S * random.uniform(0.5, 1.5))
                await self._release_job(job_id)
            else:
                log.exception("delivery_failed", job_id=job_id, job_try=attempt)
                report_error(error, job_id=job_id)
                await self._retry_or_settle(ClaimedJob(job_id, argument, attempt), error)
        finally:
            del self.tasks[job_id], self.started_at[job_id]
            self._held_jobs[priority] -= 1
            self._held_by_portal.remove(portal, events)
            self._wake.set()

    async def _end_job(self, job_id: str, end: DeliveryEnd) -> None:
        match end:
            case DeliveryEnd.CLOSED:
                self.jobs_complete += 1
            case DeliveryEnd.UNREADABLE:
                await self._complete_job(job_id)
                self.jobs_complete += 1
            case DeliveryEnd.HELD_ELSEWHERE:
                await self._release_job(job_id)
                self.jobs_retried += 1

    async def _retry_or_settle(self, claimed: ClaimedJob, error: Exception) -> None:
        """Have a job that failed by an error of ours run again soon, or settle its events if it failed too often."""
        try:
            if end := await self._settle_failed(claimed, error):
                await self._end_job(claimed.id, end)
            else:
                await self._release_job(claimed.id, due_at=clock.now_ms() + _FAILED_DELAY_MS)
        except Exception as failure:  # its lease lapses, and it runs again
            log.exception("failed_delivery_not_settled", job_id=claimed.id)
            report_error(failure, job_id=claimed.id)

    async def _complete_job(self, job_id: str) -> None:
        async with self.pool.pipeline(transaction=True) as pipeline:
            for queue in keys.QUEUES.values():
                pipeline.zrem(queue, job_id)
            pipeline.delete(*(prefix + job_id for prefix in (IN_PROGRESS_KEY_PREFIX, RETRY_KEY_PREFIX, JOB_KEY_PREFIX)))
            await pipeline.execute()

    async def _release_job(self, job_id: str, *, due_at: int | None = None) -> None:
        """Let another worker claim the job, if it is still ours; this try counts only if the job is `due_at` later."""
        with suppress(RedisError, OSError):  # its lease lapses anyway
            names = [IN_PROGRESS_KEY_PREFIX + job_id, RETRY_KEY_PREFIX + job_id, *keys.QUEUES.values()]
            due = "" if due_at is None else str(due_at)
            await self._release(keys=names, args=[self.holder, WAKE_CHANNEL, job_id, due])

    async def _start_up(self) -> None:
        """Open the worker's parts; begin again whenever Redis refuses a call of theirs."""
        await self._call_when_available(lambda: self.on_startup(self.ctx) if self.on_startup else self.pool.ping())

    async def _wait_for_redis(self) -> None:
        await self._call_when_available(self.pool.ping)

    async def _call_when_available(self, call: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await call()
            except (RedisError, OSError) as error:
                await self._outage.wait(error, _CLAIMS)
                self._outage.raise_if_unusable()
            else:
                self._outage.mark_available(_CLAIMS)
                return

    async def _listen_for_wakeups(self) -> None:
        """Wake the claim loop whenever a job was queued."""
        while True:
            try:
                async with self.pool.pubsub() as pubsub:
                    await pubsub.subscribe(WAKE_CHANNEL)
                    while True:
                        message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=_PUBSUB_TIMEOUT_S)
                        self._outage.mark_available(_WAKEUPS)
                        if message:
                            self._wake.set()
            except (RedisError, OSError) as error:
                if classify(error) is RedisFault.UNUSABLE:  # such as a Redis user without channels: poll instead
                    log.warning("wakeups_refused", error=first_word(error), poll_s=self.poll_delay_s)
                    await asyncio.sleep(_REFUSED_WAKEUPS_S)
                else:
                    await self._outage.wait(error, _WAKEUPS)


def _has_room(jobs: Room, events: Room) -> bool:
    """Return whether a job of any class may be claimed."""
    return any(jobs.of(each) and events.of(each) for each in PRIORITIES)
