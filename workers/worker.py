"""Put the worker process together: arq's settings, start-up, shutdown. Rule: what opens here closes, in reverse order.

arq ends jobs without telling anyone in four cases; each is closed here or in `process`: job keys never expire, what
cannot be decoded and what is not ours becomes a dead delivery with an alert, and tries are counted by us.
"""

import asyncio
import os
import signal
import socket
from base64 import b64encode
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any, Final

import structlog
from arq.connections import ArqRedis
from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.audit.alert_episodes import AlertEpisodes
from spokes.audit.alert_webhook import AlertWebhook
from spokes.audit.archiver import Archiver
from spokes.core.delivery import JOB_NAME, JOB_QUEUE, decode, encode
from spokes.core.errors import NotAuthorized, UnreadableDelivery
from spokes.core.redis.connections import redis_pool
from spokes.core.redis.outage import RedisOutage
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.core.telemetry.metric_totals import MetricTotals
from spokes.crm.scopes import Declaration, log_scope_differences
from spokes.crm.services import CRM
from spokes.queue.portal_pauses import PortalPauses
from spokes.routing import Router, load_router
from workers.delivery.lane_manager import LEASE_MS
from workers.delivery.run_delivery import PREFETCH_FACTOR, DeliveryRunner, process_delivery
from workers.queue.arq_worker import ArqBatchWorker
from workers.queue.leases import Lease, renew_leases
from workers.upkeep import schedule
from workers.upkeep.gauges import update_gauges
from workers.upkeep.loop_watchdog import Watchdog

_POLL_S: Final = 0.5  # a fallback: whoever queues a job wakes us
_JOBS_SHUTDOWN_S: Final = 20  # after SIGTERM; Heroku kills a dyno after 30 s
_CLOSE_TIMEOUT_S: Final = 7  # after that, when Redis or the store keeps us waiting
_NO_TIMEOUT_S: Final = 10 * 365 * 86_400  # arq's job time-out is final and silent; handlers have their own
_CANCEL_RETRY_S: Final = 0.2
_NO_LIMIT: Final = 1_000_000_000
log = structlog.get_logger()


class _WorkerRedis(ArqRedis):
    """arq ends its pool with a call that redis-py has renamed."""

    async def close(self, close_connection_pool: bool | None = None) -> None:  # noqa: FBT001 - redis-py's signature
        """Close the connections."""
        await self.aclose(close_connection_pool)


def build_worker(settings: Settings, *, burst: bool = False) -> ArqBatchWorker:
    """Return the arq worker that `settings` ask for; call it inside a running event loop.

    Args:
        settings: HUBSPOT_ACCESS_TOKEN must be among them.
        burst: end when the queue is empty, for tests and one-off runs.

    Raises:
        ConfigurationError: HANDLERS is wrong.
    """
    router = load_router(settings.handlers)
    # Blocking reads of the audit stream outlast REDIS_TIMEOUT_S, and nobody waits five seconds for a worker's answer.
    redis = _WorkerRedis(redis_pool(settings, max_connections=16, timeout_s=20))
    holder = f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}"
    patience = RedisOutage()
    stack = AsyncExitStack()

    async def start_up(ctx: dict[str, Any]) -> None:
        async with AsyncExitStack() as opening:  # closes what was opened when start-up fails half way
            crm = await CRM.open(settings, redis)
            opening.push_async_callback(crm.close)
            await _check_token(crm, router, redis)
            circuit = PortalPauses(redis, partial(_is_hubspot_available, crm))
            processor = DeliveryRunner(settings, redis, router, crm, circuit, holder=holder, outage=patience)
            opening.push_async_callback(processor.close)
            archiver = Archiver.open(settings, redis)
            opening.push_async_callback(archiver.close)
            totals = MetricTotals(redis, "worker")
            opening.push_async_callback(totals.close)
            opening.enter_context(Watchdog(asyncio.get_running_loop(), router, AlertEpisodes(redis)))

            def leases() -> list[Lease]:
                return [*worker.leases(), *processor.leases()]

            beside = (
                renew_leases(redis, leases, LEASE_MS, processor.lease_renewed),
                circuit.watch(),
                archiver.run(),
                totals.run(),
                update_gauges(redis, crm.budget),
            )
            for coroutine in (*beside, AlertWebhook(settings, redis).run(), *schedule.tasks(settings, redis, crm)):
                opening.push_async_callback(_cancel_and_wait, asyncio.create_task(coroutine))
            ctx["processor"] = processor
            stack.push_async_exit(opening.pop_all())
        log.info("worker_ready", handlers=len(router.registrations), burst=burst)

    async def shut_down(ctx: dict[str, Any]) -> None:
        del ctx
        await stack.aclose()

    worker = ArqBatchWorker(
        holder=holder,
        lease_ms=LEASE_MS,
        outage=patience,
        free_capacity=lambda: worker.ctx["processor"].free_capacity(),  # noqa: PLW0108 - the processor is made at start-up
        functions=[process_delivery],
        queue_name=JOB_QUEUE,
        redis_pool=redis,
        burst=burst,
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

    def hurry(_: signal.Signals) -> None:
        worker.loop.call_later(_CLOSE_TIMEOUT_S, _exit_unclosed)

    worker.on_stop = hurry
    return worker


def _exit_unclosed() -> None:
    """End without closing: what is not settled runs elsewhere when our leases have lapsed."""
    log.warning("ended_without_closing")
    os._exit(0)


def decode_job(payload: bytes) -> dict[str, Any]:
    """Read a job of any kind: arq would drop in silence what it cannot decode or has no function for."""
    try:
        job = decode(payload)
    except UnreadableDelivery:
        job = {}
    if job.get("f") == JOB_NAME and isinstance(job.get("a"), list) and len(job["a"]) == 1:
        return {"t": None, "f": JOB_NAME, "a": job["a"], "k": {}, "et": job.get("et") or 0}
    return {"t": None, "f": JOB_NAME, "a": [{"unreadable": b64encode(payload).decode()}], "k": {}, "et": 0}


async def _check_token(crm: CRM, router: Router, redis: Redis) -> None:
    """Stop a worker whose token HubSpot does not know; HubSpot being down is no reason to."""
    uses = [Declaration(claim.partition(".")[0], route.uses.reads, route.uses.may) for claim, route in router]
    try:
        log_scope_differences(await crm.check_token(), uses)
    except NotAuthorized:
        with suppress(RedisError, OSError):
            await AlertEpisodes(redis).report_once(Alert.ACCESS_TOKEN_REFUSED)
        raise


async def _is_hubspot_available(crm: CRM) -> bool:
    """Return whether HubSpot answers and knows our token."""
    try:
        return await crm.check_token() is not None
    except NotAuthorized:
        return False


async def _cancel_and_wait(task: asyncio.Task[None]) -> None:
    """Cancel until it has ended: a driver that is connecting may turn a cancellation into an error of its own."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_CANCEL_RETRY_S)
    await asyncio.gather(task, return_exceptions=True)
