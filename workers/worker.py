"""Assemble the worker process: arq's settings, start-up, shutdown. What is opened is closed in reverse order.

arq drops jobs silently in four cases, each prevented here or in `run_delivery`: job keys never expire; a job that
cannot be decoded, or is not a delivery, is stored as unreadable with an alert; and tries are counted by us.
"""

import os
import signal
import socket
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any, Final, cast

import structlog
from arq.connections import ArqRedis

from spokes.core.delivery import JOB_NAME, decode, encode, unread_argument
from spokes.core.errors import UnreadableDelivery
from spokes.core.redis.connections import redis_pool
from spokes.core.redis.keys import JOB_QUEUE, WORKER_HEALTH
from spokes.core.redis.outage import RedisOutage
from spokes.core.settings import Settings
from spokes.routing import load_router
from workers.background_tasks import start_background_tasks
from workers.delivery.run_delivery import PREFETCH_FACTOR, WorkerParts, run_delivery
from workers.lanes.lane_manager import LEASE_MS
from workers.opening import learn_portal, open_worker
from workers.protected_process import exit_process
from workers.queue.arq_worker import ArqBatchWorker
from workers.queue.claim_gate import ClaimGate
from workers.queue.claimed_job import ClaimedJob, DeliveryEnd
from workers.queue.room import Room

_POLL_S: Final = 0.5  # a fallback: a message wakes us for each queued job
_JOBS_SHUTDOWN_S: Final = 20  # for running jobs, after SIGTERM; Heroku kills a dyno after 30 s
_CLOSE_TIMEOUT_S: Final = 7  # for closing after that, if Redis or the audit store does not answer
_NO_TIMEOUT_S: Final = 10 * 365 * 86_400  # arq's job time-out is final and silent; handlers have their own
_NO_LIMIT: Final = 1_000_000_000
log = structlog.get_logger()


class _WorkerRedis(ArqRedis):
    """arq closes its pool with a call that redis-py has renamed."""

    async def close(self, close_connection_pool: bool | None = None) -> None:  # noqa: FBT001 - redis-py's signature
        """Close the connections."""
        await self.aclose(close_connection_pool)


def build_worker(settings: Settings, *, burst: bool = False, has_upkeep: bool = True) -> ArqBatchWorker:
    """Return the arq worker for `settings`; call it inside a running event loop.

    Args:
        settings: must include HUBSPOT_ACCESS_TOKEN or HUBSPOT_CLIENT_ID.
        burst: end when the queue is empty, for tests and one-off runs.
        has_upkeep: also handle signals, archive, measure, and watch the event loop. Without, only deliveries run, as in
            the tests of handlers.

    Raises:
        ConfigurationError: HANDLERS is wrong.
    """
    router = load_router(settings.handlers)
    # Blocking reads of the audit stream take longer than REDIS_TIMEOUT_S, and a worker may wait for Redis longer than
    # the five seconds of a web process.
    redis = _WorkerRedis(redis_pool(settings, max_connections=settings.redis_worker_connections, timeout_s=20))
    holder = f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}"
    outage = RedisOutage()
    gate = ClaimGate(redis, settings)
    stack = AsyncExitStack()

    async def start_up(ctx: dict[str, Any]) -> None:
        async with AsyncExitStack() as opening:  # closes what was opened if start-up fails half way
            opened = await open_worker(
                settings, redis, router, opening, holder=holder, outage=outage, is_publisher=has_upkeep
            )
            ctx.update(parts=opened.parts, budget=opened.crm.budget, pauses=opened.pauses)
            if has_upkeep:
                await start_background_tasks(opened, worker, gate, opening)
                log.info("worker_ready", handlers=len(router.registrations), burst=burst)
            else:
                await learn_portal(opened.crm, router, redis, outage)
            stack.push_async_exit(opening.pop_all())

    async def shut_down(ctx: dict[str, Any]) -> None:
        del ctx
        await stack.aclose()

    def free_capacity() -> Room:
        parts: WorkerParts = worker.ctx["parts"]
        return parts.free_capacity()

    def run_job(claimed: ClaimedJob) -> Coroutine[Any, Any, DeliveryEnd]:
        return run_delivery(claimed, worker.ctx["parts"])

    def settle_failed(claimed: ClaimedJob, error: Exception) -> Coroutine[Any, Any, DeliveryEnd | None]:
        return cast("WorkerParts", worker.ctx["parts"]).settle_failed(claimed, error)

    worker = ArqBatchWorker(
        holder=holder,
        lease_ms=LEASE_MS,
        outage=outage,
        gate=gate,
        free_capacity=free_capacity,
        skipped_portals=lambda: worker.ctx["parts"].missing_credentials.served_elsewhere(),  # noqa: PLW0108 - `ctx` has no parts yet
        are_calls_scarce=lambda: worker.ctx["budget"].is_scarce,
        run_job=run_job,
        settle_failed=settle_failed,
        functions=[_process_delivery],
        queue_name=JOB_QUEUE,
        health_check_key=WORKER_HEALTH,
        redis_pool=redis,
        burst=burst,
        handle_signals=has_upkeep,
        on_startup=start_up,
        on_shutdown=shut_down,
        job_completion_wait=_JOBS_SHUTDOWN_S,
        max_jobs=PREFETCH_FACTOR * settings.max_deliveries,
        job_timeout=_NO_TIMEOUT_S,
        keep_result=0,
        poll_delay=_POLL_S,
        max_tries=_NO_LIMIT,
        job_serializer=encode,
        job_deserializer=decode_job,
        log_results=False,
    )

    def limit_shutdown(_: signal.Signals) -> None:
        worker.loop.call_later(_CLOSE_TIMEOUT_S, _exit_unclosed)

    worker.on_stop = limit_shutdown
    return worker


def _exit_unclosed() -> None:
    """Exit without closing: unsettled events run elsewhere once our leases have lapsed."""
    log.warning("shutdown_timed_out")
    exit_process(0)


async def _process_delivery(ctx: dict[str, Any], job: object) -> None:
    """Stand for a function, which arq requires; `run_job` runs the jobs."""
    raise NotImplementedError


def decode_job(payload: bytes) -> dict[str, Any]:
    """Decode a job of any kind as a delivery: arq silently drops a job that it cannot decode or has no function for."""
    try:
        job = decode(payload)
    except UnreadableDelivery:
        job = {}
    if job.get("f") == JOB_NAME and isinstance(job.get("a"), list) and len(job["a"]) == 1:
        return {"t": None, "f": JOB_NAME, "a": job["a"], "k": {}, "et": job.get("et") or 0}
    return {"t": None, "f": JOB_NAME, "a": [unread_argument(payload)], "k": {}, "et": 0}
