"""Put the worker process together: arq's settings, start-up, shutdown. Rule: what opens here closes, in reverse order.

arq ends jobs without telling anyone in four cases; each is closed here or in `process`: job keys never expire, what
cannot be decoded and what is not ours becomes a dead delivery with an alert, and tries are counted by us.
"""

import asyncio
import os
import socket
from base64 import b64encode
from contextlib import AsyncExitStack
from typing import Any, Final

import structlog
from arq import Worker
from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix

from audit.archive import Archiver
from core.connections import redis_pool
from core.deliveries import JOB_NAME, QUEUE_NAME, decode, encode
from core.errors import NotAuthorized, UnreadableDelivery
from core.settings import Settings
from core.telemetry import alert
from crm.services import CRM
from handlers.routing import load_router
from workers.heartbeat import beat
from workers.lanes import LEASE_MS, Lanes
from workers.process import Processor, process_delivery

_POLL_S: Final = 0.05  # arq's own half second would add a quarter of one to every event
_COMPLETION_S: Final = 20  # after SIGTERM; Heroku kills a dyno after 30 s
_NEVER_S: Final = 10 * 365 * 86_400  # arq's job time-out is final and silent; handlers have their own
_NO_LIMIT: Final = 1_000_000_000
log = structlog.get_logger()


class _Redis(ArqRedis):
    """arq ends its pool with a call that redis-py has renamed."""

    async def close(self, close_connection_pool: bool | None = None) -> None:  # noqa: FBT001 - redis-py's signature
        """Close the connections."""
        await self.aclose(close_connection_pool)


def build_worker(settings: Settings, *, burst: bool = False) -> Worker:
    """Return the arq worker that `settings` ask for; call it inside a running event loop.

    Args:
        settings: HUBSPOT_ACCESS_TOKEN must be among them.
        burst: end when the queue is empty, for tests and one-off runs.

    Raises:
        ConfigurationError: HANDLERS is wrong.
    """
    router = load_router(settings.handlers)
    # Blocking reads of the audit stream outlast REDIS_TIMEOUT_S, and nobody waits five seconds for a worker's answer.
    redis = _Redis(redis_pool(settings, max_connections=16, timeout_s=20))
    stack = AsyncExitStack()

    async def start_up(ctx: dict[str, Any]) -> None:
        async with AsyncExitStack() as opening:  # closes what was opened when start-up fails half way
            crm = await CRM.open(settings, redis)
            opening.push_async_callback(crm.close)
            await _check_token(crm)
            lanes = Lanes(redis, f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}")
            ctx["processor"] = Processor(settings, redis, router, crm, lanes)

            def leases() -> list[str]:
                return [*lanes.held, *(in_progress_key_prefix + job_id for job_id in worker.tasks)]

            archiver = Archiver.open(settings, redis)
            opening.push_async_callback(archiver.close)
            for coroutine in (beat(redis, leases, LEASE_MS), archiver.run()):
                opening.push_async_callback(_cancel, asyncio.create_task(coroutine))
            stack.push_async_exit(opening.pop_all())
        log.info("worker_ready", handlers=len(router.claims), burst=burst)

    async def shut_down(ctx: dict[str, Any]) -> None:
        del ctx
        await stack.aclose()

    worker = Worker(
        functions=[process_delivery],
        queue_name=QUEUE_NAME,
        redis_pool=redis,
        burst=burst,
        on_startup=start_up,
        on_shutdown=shut_down,
        job_completion_wait=_COMPLETION_S,
        max_jobs=settings.max_deliveries,
        job_timeout=_NEVER_S,
        keep_result=0,
        poll_delay=_POLL_S,
        max_tries=_NO_LIMIT,
        job_serializer=encode,
        job_deserializer=_read_job,
        log_results=False,
    )
    worker.in_progress_timeout_s = LEASE_MS / 1000  # renewed by the heartbeat while the worker lives
    return worker


def _read_job(payload: bytes) -> dict[str, Any]:
    """Read a job of any kind: arq would drop in silence what it cannot decode or has no function for."""
    try:
        job = decode(payload)
    except UnreadableDelivery:
        job = {}
    if job.get("f") == JOB_NAME and isinstance(job.get("a"), list) and len(job["a"]) == 1:
        return {"t": None, "f": JOB_NAME, "a": job["a"], "k": {}, "et": job.get("et") or 0}
    return {"t": None, "f": JOB_NAME, "a": [{"unreadable": b64encode(payload).decode()}], "k": {}, "et": 0}


async def _check_token(crm: CRM) -> None:
    """Stop a worker whose token HubSpot does not know; HubSpot being down is no reason to."""
    try:
        await crm.check_token()
    except NotAuthorized:
        alert("access_token_refused", advice="copy the access token from the Auth page of your HubSpot app")
        raise


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
