"""`tools.http` in two worker processes: they share the declared rate of a host, and the pause of one that fails."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from redis.asyncio import Redis

from spokes.core.redis import keys
from spokes.queue.held_deliveries import Calls
from spokes.queue.pauses.call_pauses import CallPauses
from spokes.simulator.app import Simulator
from tests.support.events import recorded
from tests.support.processes.contact_changes import outcomes, queue_changes
from tests.support.processes.running_processes import RunningProcesses
from tests.support.waiting import until
from tests.workers.http.own_system import OwnSystem, own_system

pytestmark = pytest.mark.slow


@pytest.fixture
async def erp() -> AsyncIterator[OwnSystem]:
    async with own_system() as system:
        yield system


@pytest.fixture
def workers_environ(environ: dict[str, str], hubspot: Simulator, erp: OwnSystem) -> dict[str, str]:
    return environ | {
        "HUBSPOT_API_URL": hubspot.url, "DATABASE_URL": "postgres://127.0.0.1:1/none", "MAX_OBJECTS": "1",
        "HANDLERS": "tests.support.handlers.ordering", "ERP_URL": erp.url,
    }  # fmt: skip


async def start_two_workers(redis: Redis, processes: RunningProcesses, environ: dict[str, str]) -> None:
    """Start two worker processes that run one event at a time each."""
    for _ in range(2):
        processes.start("workers", environ)

    async def have_started() -> bool:
        return await redis.zcard(keys.LIVE_PROCESSES) == 2

    await until(have_started)


def callers(erp: OwnSystem) -> set[str]:
    """Return the processes that have called a system."""
    return {request.headers["X-Process"] for request in erp.requests}


async def parked(redis: Redis, reason: str) -> int:
    return sum(record.reason == reason for record in await recorded(redis))


async def test_declared_rate_holds_for_both_together(
    redis: Redis, hubspot: Simulator, erp: OwnSystem, workers_environ: dict[str, str], processes: RunningProcesses
) -> None:
    await start_two_workers(redis, processes, {**workers_environ, "ERP_RATE": "12/h"})
    await queue_changes(redis, hubspot, *["ordered"] * 40, value="order")

    async def have_ended() -> bool:
        return len(await outcomes(redis, "processed")) + await parked(redis, "http_rate_reached") >= 40

    await until(have_ended)
    assert (len(erp.requests), len(await outcomes(redis, "processed"))) == (12, 12)
    assert len(callers(erp)) == 2
    assert await outcomes(redis, "dead", "retried") == []


async def test_host_that_fails_is_paused_for_both_and_all_events_run_after_it_answers(
    redis: Redis, hubspot: Simulator, erp: OwnSystem, workers_environ: dict[str, str], processes: RunningProcesses
) -> None:
    await start_two_workers(redis, processes, workers_environ)
    calls = Calls(hubspot.portal.config.portal_id, erp.url)
    erp.answers = [web.Response(status=503) for _ in range(10_000)]
    await queue_changes(redis, hubspot, *["ordered"] * 20, value="before")

    async def is_paused() -> bool:
        return bool(await redis.hlen(keys.PAUSED_CALLS))  # type: ignore[misc]  # redis-py types one class for sync and async

    await until(is_paused)

    async def all_wait() -> bool:
        return await redis.zcard(keys.held_deliveries(*calls)) >= 19  # one may be a probe

    await until(all_wait)
    await queue_changes(redis, hubspot, *["ordered"] * 20, value="during")

    async def further_wait() -> bool:
        return await redis.zcard(keys.held_deliveries(*calls)) >= 39

    await until(further_wait)
    probes = sum(pause.failed_probes or 0 for pause in await CallPauses(redis).list()) + 1
    assert [request.path for request in erp.requests].count("/during") <= probes
    assert len(callers(erp)) == 2
    del erp.answers[:]

    async def all_ran() -> bool:
        return len(await outcomes(redis, "processed")) == 40

    await until(all_ran, seconds=60)
    assert await outcomes(redis, "dead") == []
    assert len({request.key for request in erp.requests}) == 40  # each event keeps its key over its attempts
