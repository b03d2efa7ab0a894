"""Fixture of worker tests: a worker's parts, connected to HubSpot's simulator."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import pytest
from redis.asyncio import Redis

from spokes.core import clock
from spokes.core.delivery import Delivery, Entry, job_payload, new_delivery_id
from spokes.core.events import Event
from spokes.core.redis.keys import JOB_KEY_PREFIX, JOB_QUEUE
from spokes.core.settings import Settings
from spokes.crm.services import CRM
from spokes.simulator.app import Simulator
from tests.support.events import recorded
from tests.workers.harness import KEYS, PORTAL, Harness
from workers.worker import build_worker

RunAll: TypeAlias = Callable[..., Awaitable[list[tuple[str, str]]]]


@pytest.fixture
def handler_timeout_s() -> float:
    """The time-out of the harness' handlers; tests that wait for it have a shorter one."""
    return 20.0


@pytest.fixture
async def harness(
    environ: dict[str, str], redis: Redis, hubspot: Simulator, handler_timeout_s: float
) -> AsyncIterator[Harness]:
    more = {"HUBSPOT_API_URL": hubspot.url, "HANDLER_TIMEOUT_S": str(handler_timeout_s)}
    settings = Settings.from_env({**environ, **more})
    crm = await CRM.open(settings, redis)
    await crm.check_token()  # as a worker does before it claims anything
    harness = Harness(settings, redis, crm)
    yield harness
    await harness.parts.close()
    await crm.close()


@pytest.fixture
def run_all(environ: dict[str, str], redis: Redis, hubspot: Simulator) -> RunAll:
    """Return a function that runs events in a worker until the queue is empty, and returns their outcomes."""

    async def run(*raws: dict[str, object], **variables: str) -> list[tuple[str, str]]:
        more = {
            "RETRY_SCHEDULE_S": "0.05,0.05", "OUTAGE_RETRY_HOURS": "0", "DATABASE_URL": "postgres://127.0.0.1:1/none",
            "HANDLERS": "chaos.bad_handlers", "HANDLER_TIMEOUT_S": "0.6", "HUBSPOT_API_URL": hubspot.url,
        }  # fmt: skip
        entries = tuple(Entry(KEYS(Event(raw)), 0, raw) for raw in raws)
        delivery = Delivery(new_delivery_id(PORTAL), PORTAL, clock.now_ms(), entries)
        await redis.set(JOB_KEY_PREFIX + delivery.id, job_payload(delivery, delivery.received_at))
        await redis.zadd(JOB_QUEUE, {delivery.id: delivery.received_at})
        worker = build_worker(Settings.from_env({**environ, **more, **variables}), burst=True)
        worker._handle_signals = False
        try:
            async with asyncio.timeout(50):
                await worker.async_run()
        finally:
            await worker.close()
        return [(record.outcome.value, record.reason) for record in await recorded(redis) if record.outcome]

    return run
