"""BatchWorker: arq's worker on arq's own keys, which talks to Redis per batch instead of per job.

Rule: stock arq workers can drain the same queue, and share it. Idle workers are woken, polling is the fallback; Redis
being away is waited out; a job that this process could not end is left to its lease, and runs again.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import structlog
from arq import Worker
from arq.constants import in_progress_key_prefix, job_key_prefix, retry_key_prefix
from redis.exceptions import RedisError

from spokes.core import clock
from spokes.core.delivery import WAKE_CHANNEL
from spokes.core.redis import keys
from spokes.core.redis.outage import RedisOutage, is_outage, is_redis_outage
from spokes.core.telemetry.setup import report_error
from workers.queue.leases import Lease

_CLAIM: Final = (Path(__file__).parent / "claim.lua").read_text()
_RELEASE: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then -- else another has it by now
  redis.call('DEL', KEYS[1])
  if redis.call('EXISTS', KEYS[2]) == 1 then -- else another has ended it while our lease had lapsed
    redis.call('DECR', KEYS[2])
    redis.call('PUBLISH', ARGV[2], '')
  end
end
"""
_PAUSED_DELAY_MS: Final = 5_000  # jobs of a paused portal; a resumed one goes on within this time
_PUBSUB_TIMEOUT_S: Final = 10.0
log = structlog.get_logger()


class ArqBatchWorker(Worker):
    """Claims for all free slots at once, one task a job, goes on without a pause while jobs wait."""

    def __init__(
        self, *, holder: str, lease_ms: int, outage: RedisOutage, free_capacity: Callable[[], int], **options: Any
    ) -> None:
        """Take arq's own options, and ours.

        Args:
            holder: our name, which no other process shares.
            lease_ms: how long a job is ours without a heartbeat.
            patience: shared by all of the process.
            room: how many events may be taken on.
        """
        super().__init__(**options)
        self._holder = holder
        self._lease_ms = lease_ms
        self._outage = outage
        self._free_capacity = free_capacity
        self._claim = self.pool.register_script(_CLAIM)
        self._release = self.pool.register_script(_RELEASE)
        self._wake = asyncio.Event()
        self._is_drained = False  # in burst mode: nothing is left

    def leases(self) -> list[Lease]:
        """Return the leases of the jobs under way, with what they say."""
        return [Lease(in_progress_key_prefix + job_id, self._holder, may_reacquire=True) for job_id in self.tasks]

    async def main(self) -> None:
        """Run as arq does, once Redis answers; arq's own also asks it for things without which one can do."""
        await self._wait_for_redis()
        listener = asyncio.create_task(self._listen_for_wakeups())
        try:
            self.ctx["redis"] = self.pool
            if self.on_startup:
                await self.on_startup(self.ctx)
            while not self._is_drained:
                await self._poll_iteration()
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)

    async def close(self) -> None:
        """End as arq does, but also when Redis is away: what is open still closes, and what can be settled is."""
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        with suppress(RedisError, OSError):
            await self.pool.delete(self.health_check_key)
        if self.on_shutdown:
            await self.on_shutdown(self.ctx)
        await self.pool.aclose(close_connection_pool=True)

    async def _poll_iteration(self) -> None:
        """Take on jobs until the poll delay is over, or in burst mode until none is left."""
        if not self.allow_pick_jobs and not self.tasks:
            # Told to end, and done: arq cancels us once, which wait_for of Python 3.11 may lose.
            raise asyncio.CancelledError
        deadline = self.loop.time() + self.poll_delay_s
        try:
            while (left_s := deadline - self.loop.time()) > 0:
                self._wake.clear()
                due_s = await self._claim_jobs() if self.allow_pick_jobs else left_s
                if self.burst and not self.tasks and not await self.pool.zcard(self.queue_name):
                    self._is_drained = True
                    break
                if due_s > 0:
                    with suppress(TimeoutError):
                        # Not wait_for: it loses a cancellation that comes together with what it waits for.
                        async with asyncio.timeout(min(due_s, max(0.0, deadline - self.loop.time()))):
                            await self._wake.wait()
            await self.heart_beat()
        except (RedisError, OSError) as error:
            if not is_outage(error):
                raise
            await self._outage.wait(error)

    async def _claim_jobs(self) -> float:
        """Claim what there is room for; return for how many seconds there is nothing more to claim."""
        slots, room = self.max_jobs - len(self.tasks), self._free_capacity()
        if slots <= 0 or room <= 0:
            return self.poll_delay_s  # a job that ends wakes us
        now_ms = clock.now_ms()
        words: list[str | int] = [now_ms, slots, self._lease_ms, self._holder, _PAUSED_DELAY_MS, room]
        next_ms, jobs = await self._claim(keys=[self.queue_name, keys.PAUSED_PORTALS], args=words)
        self._outage.mark_available()
        for job_id, payload, job_try in jobs:
            name = job_id.decode()
            if name not in self.tasks:  # else its lease ran out while Redis was away, and we are at it still
                self.tasks[name] = self.loop.create_task(self._run_job(name, payload, job_try))
        await asyncio.sleep(0)  # they begin, and say how many events they have, before we ask for room again
        return self.poll_delay_s if next_ms < 0 else next_ms / 1000

    async def _run_job(self, job_id: str, payload: bytes | None, job_try: int) -> None:
        try:
            job = self.job_deserializer(payload or b"")  # type: ignore[misc]  # arq makes it optional; ours reads anything
            function = self.functions[job["f"]]
            ended = await function.coroutine({**self.ctx, "job_id": job_id, "job_try": job_try}, *job["a"])
            if not ended:
                await self._complete_job(job_id)
            self.jobs_complete += 1
        except asyncio.CancelledError:
            await asyncio.shield(self._release_job(job_id))
            self.jobs_retried += 1
        except Exception as error:  # a fault of ours must not end the worker; the lease runs out, the job runs again
            self.jobs_failed += 1
            if is_redis_outage(error):
                await self._outage.wait(error)
                await self._release_job(job_id)
            else:
                log.exception("delivery_failed", job_id=job_id, job_try=job_try)
                report_error(error, job_id=job_id)
        finally:
            del self.tasks[job_id]
            self._wake.set()

    async def _complete_job(self, job_id: str) -> None:
        async with self.pool.pipeline(transaction=True) as pipeline:
            pipeline.zrem(self.queue_name, job_id)
            pipeline.delete(*(prefix + job_id for prefix in (in_progress_key_prefix, retry_key_prefix, job_key_prefix)))
            await pipeline.execute()

    async def _release_job(self, job_id: str) -> None:
        """Let another worker have the job at once; this try does not count."""
        with suppress(RedisError, OSError):  # else its lease runs out
            names = [in_progress_key_prefix + job_id, retry_key_prefix + job_id]
            await self._release(keys=names, args=[self._holder, WAKE_CHANNEL])

    async def _wait_for_redis(self) -> None:
        while True:
            try:
                await self.pool.ping()
            except Exception as error:
                if not is_outage(error):
                    raise
                await self._outage.wait(error)
            else:
                self._outage.mark_available()
                return

    async def _listen_for_wakeups(self) -> None:
        """Be woken by whoever queues a job."""
        while True:
            try:
                async with self.pool.pubsub() as pubsub:
                    await pubsub.subscribe(WAKE_CHANNEL)
                    while True:
                        if await pubsub.get_message(ignore_subscribe_messages=True, timeout=_PUBSUB_TIMEOUT_S):
                            self._wake.set()
            except (RedisError, OSError) as error:
                await self._outage.wait(error)
