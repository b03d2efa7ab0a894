"""A real worker process while a real Redis refuses: it waits, continues, and loses nothing; or ends with a sentence."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from bench.hubspots.token_info import token_info_server
from bench.lib.outcomes import StreamOutcomes
from bench.workers import PORTAL, change_event, fill_queue
from spokes.core.redis.keys import AUDIT_STREAM, JOB_QUEUE
from tests.support.deployment import ROOT, TOKEN
from tests.support.redis_server import busy_script, fill_memory, free_memory, own_server
from tests.support.waiting import until

pytestmark = pytest.mark.slow  # each test runs a worker through an outage

EVENTS = 300
Refusal = Callable[[str, Redis], AbstractAsyncContextManager[None]]


@pytest.fixture(scope="module")
def hubspot_url() -> Iterator[str]:
    """A HubSpot that knows the token and nothing else."""
    with token_info_server(PORTAL) as url:
        yield url


def worker_process(url: str, hubspot_url: str, folder: Path, **environ: str) -> subprocess.Popen[str]:
    """Start a worker whose handler sleeps; without an audit store, so that the records stay in Redis."""
    env = {
        "PATH": "/usr/bin", "PYTHONPATH": str(ROOT), "REDIS_URL": url, "DATA_DIR": str(folder), "AUDIT_KEY": "k" * 32,
        "HUBSPOT_ACCESS_TOKEN": TOKEN, "HUBSPOT_API_URL": hubspot_url, "LOG_LEVEL": "WARNING",
        "DATABASE_URL": "postgres://127.0.0.1:1/none", "HANDLERS": "bench.handlers.noop", "BENCH_SLEEP_S": "0.05",
        "LOG_FORMAT": "json", **environ,
    }  # fmt: skip
    return subprocess.Popen([sys.executable, "-m", "workers"], cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)


@asynccontextmanager
async def config(redis: Redis, name: str, refusing: Any, usual: Any) -> Any:
    await redis.config_set(name, refusing)
    yield
    await redis.config_set(name, usual)


@asynccontextmanager
async def without_memory(_: str, redis: Redis) -> Any:
    await redis.config_set("maxmemory", "20mb")
    await fill_memory(redis)
    yield
    await free_memory(redis)
    await redis.config_set("maxmemory", 0)


@asynccontextmanager
async def as_replica(_: str, redis: Redis) -> Any:
    await redis.config_set("replica-serve-stale-data", "no")
    await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    yield
    await redis.execute_command("REPLICAOF", "NO", "ONE")


@asynccontextmanager
async def queue_of_another_type(_: str, redis: Redis) -> Any:
    await redis.set(JOB_QUEUE, "not ours")
    yield  # the worker moves it aside, and queues the jobs again


REFUSALS: dict[str, Refusal] = {
    "OOM": without_memory,
    "BUSY": busy_script,
    "NOREPLICAS": lambda _, redis: config(redis, "min-replicas-to-write", 1, 0),
    "MASTERDOWN": as_replica,
    "WRONGTYPE": queue_of_another_type,
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
async def test_worker_outlasts_a_refusing_redis(tmp_path: Path, hubspot_url: str, refusal: Refusal) -> None:
    async with own_server(tmp_path / "valkey", busy_reply_threshold="50") as (url, redis):
        await fill_queue(redis, EVENTS, 1, change_event)
        process = worker_process(url, hubspot_url, tmp_path, MAX_OBJECTS="5")
        try:
            await until(lambda: redis.xlen(AUDIT_STREAM))
            async with refusal(url, redis):
                await asyncio.sleep(4)
                assert process.poll() is None

            async def is_empty() -> bool:
                return not await redis.zcard(JOB_QUEUE)

            await until(is_empty)
            outcomes = await StreamOutcomes.read(redis)
            await asyncio.sleep(6)  # every task of the worker has called Redis again
        finally:
            process.terminate()
            _, errors = await asyncio.to_thread(process.communicate, timeout=90)
    assert (outcomes.counts, outcomes.settled_twice) == ({"processed": EVENTS}, 0)
    events = [orjson.loads(line)["event"] for line in errors.splitlines() if line.startswith("{")]
    assert events.count("redis_outage_started") == events.count("redis_outage_ended"), errors
    assert events.count("redis_outage_started") <= 2, errors
    assert {"uncaught", "delivery_failed"} & set(events) == set(), errors


UNUSABLE: dict[str, tuple[str, str]] = {
    "wrong password": ("redis://user:wrong@127.0.0.1:{port}", "refuses the user name or the password"),
    "missing permission": ("redis://user:right@127.0.0.1:{port}", "lacks a permission"),
    "unknown database": ("redis://127.0.0.1:{port}/99", "does not have the database"),
}


@pytest.mark.parametrize(("address", "sentence"), UNUSABLE.values(), ids=UNUSABLE)
async def test_worker_ends_with_a_sentence_when_waiting_cannot_help(
    tmp_path: Path, hubspot_url: str, address: str, sentence: str
) -> None:
    async with own_server(tmp_path / "valkey") as (url, redis):
        await redis.execute_command("ACL", "SETUSER", "user", "on", ">right", "~*", "&*", "+@all", "-evalsha", "-eval")
        process = worker_process(address.format(port=url.rpartition(":")[2].rstrip("/")), hubspot_url, tmp_path)
        with suppress(subprocess.TimeoutExpired):
            _, errors = await asyncio.to_thread(process.communicate, timeout=90)
        process.kill()
    assert process.returncode == 2, errors
    assert sentence in errors.splitlines()[-1]
