"""Redis loses all keys under running processes: work goes on within seconds, and one alert says what was lost."""

import asyncio

import pytest
from redis.asyncio import Redis

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core.redis import keys
from spokes.core.telemetry.alerts import Alert
from spokes.simulator.api.faults import Fault
from spokes.simulator.app import Simulator
from spokes.simulator.config import Latency
from tests.support.processes.worker_processes import Workers, final_outcomes, queue, until, until_ready


@pytest.mark.slow
async def test_workers_go_on_and_report_one_loss_after_redis_lost_all_keys(
    redis: Redis, hubspot: Simulator, workers: Workers
) -> None:
    running = [workers.start(), workers.start()]
    async with asyncio.timeout(120):
        for process in running:
            await until_ready(process)
        hubspot.faults.add(Fault(path="*/batch/read", times=1, latency=Latency(1_000)))
        await queue(redis, hubspot)
        await until("called", redis=redis, hubspot=hubspot)
        await redis.flushdb()
        while not await AlertEpisodes(redis).active(Alert.REDIS_DATA_LOST):  # noqa: ASYNC110 - nothing signals it
            await asyncio.sleep(0.1)
        await queue(redis, hubspot)
        await until("resolved", redis=redis, hubspot=hubspot)
    assert await final_outcomes(redis) == ["processed"]
    assert await redis.llen(keys.GAP_REPORTS) == 1  # type: ignore[misc]  # redis-py types one class for sync and async
    assert [process.poll() for process in running] == [None, None]
