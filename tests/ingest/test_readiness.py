"""`/readyz` runs what a delivery runs, and says in a sentence why deliveries would be refused."""

import asyncio
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis

from ingest.server.views import BACKPRESSURE
from spokes.console.doctor.findings import FindingLevel
from spokes.console.doctor.redis_check import check_redis
from spokes.core.redis.keys import AUDIT_STREAM, JOB_QUEUE, WRITE_PROBE
from spokes.core.redis.pool import RedisPool
from spokes.core.settings import Settings
from spokes.intake.backpressure import PressureLevel
from tests.support.deployment import WebProcessServer
from tests.support.redis_server import fill_memory, own_server

PASSWORD = "long-enough"


async def readyz(client: TestClient) -> tuple[int, str]:
    async with client.get("/readyz") as response:
        return response.status, await response.text()


async def refuse(redis: Redis, word: str) -> None:
    """Make a server of a test's own refuse writes."""
    if word == "READONLY":
        await redis.replicaof("127.0.0.1", 1)
    elif word == "MASTERDOWN":
        await redis.config_set("replica-serve-stale-data", "no")
        await redis.replicaof("127.0.0.1", 1)
    elif word == "NOREPLICAS":
        await redis.config_set("min-replicas-to-write", 1)
    elif word == "OOM":
        await fill_memory(redis)
    elif word == "NOPERM":
        await redis.acl_setuser("default", enabled=True, nopass=True, commands=["+@all", "-zadd"], keys=["*"])
    elif word == "NOAUTH":
        await redis.config_set("requirepass", "another-password")
        await redis.client_kill_filter(_type="normal", skipme=True)


@pytest.mark.parametrize("word", ["READONLY", "MASTERDOWN", "NOREPLICAS", "OOM", "NOPERM", "NOAUTH"])
async def test_redis_that_refuses_writes_is_named(environ: dict[str, str], tmp_path: Path, word: str) -> None:
    async with own_server(tmp_path / "own", maxmemory="20mb", appendonly="yes") as (url, redis):
        settings = Settings.from_env({**environ, "REDIS_URL": url, "MAX_MEMORY_SHARE": "0.99"})
        await refuse(redis, word)
        async with TestClient(WebProcessServer(settings)) as client:
            client.app[BACKPRESSURE].level = PressureLevel.ALL
            status, body = await readyz(client)
        other = Redis.from_pool(RedisPool.from_url(url, max_connections=2, timeout=5.0))
        [finding, *_] = await check_redis(other, settings)
        await other.aclose()
    assert (status, word in body or "maxmemory" in body, body.count("\n")) == (503, True, 1)
    assert (finding.level, word in finding.sentence) == (FindingLevel.FAULT, True)


async def test_unreachable_redis_is_named(environ: dict[str, str]) -> None:
    settings = Settings.from_env({**environ, "REDIS_URL": "redis://127.0.0.1:1/0"})
    async with TestClient(WebProcessServer(settings)) as client:
        status, body = await readyz(client)
    assert (status, "Redis does not answer. Check REDIS_URL" in body) == (503, True)


async def test_full_queue_is_named(client: TestClient) -> None:
    client.app[BACKPRESSURE].level = PressureLevel.NOTHING
    status, body = await readyz(client)
    assert (status, "MAX_BACKLOG" in body) == (503, True)


async def test_check_leaves_nothing(client: TestClient, redis: Redis) -> None:
    assert await readyz(client) == (200, "ok\n")
    assert await redis.exists(WRITE_PROBE, JOB_QUEUE, AUDIT_STREAM) == 0


async def test_concurrent_askers_share_one_check(client: TestClient, redis: Redis) -> None:
    await redis.config_resetstat()
    assert {status for status, _ in await asyncio.gather(*(readyz(client) for _ in range(50)))} == {200}
    calls = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert calls <= 3


async def test_redis_user_without_info_is_ready_and_the_backlog_limit_holds(
    environ: dict[str, str], tmp_path: Path
) -> None:
    async with own_server(tmp_path / "own") as (url, redis):
        await redis.acl_setuser(
            "app", enabled=True, passwords=[f"+{PASSWORD}"], commands=["+@all", "-@dangerous"], keys=["*"]
        )
        address = url.replace("//", f"//app:{PASSWORD}@")
        settings = Settings.from_env({**environ, "REDIS_URL": address, "MAX_BACKLOG": "3"})
        async with TestClient(WebProcessServer(settings)) as client:
            assert (await readyz(client))[0] == 200
            await redis.zadd(JOB_QUEUE, {f"7-{number}": 1 for number in range(4)})
            await client.app[BACKPRESSURE].measure()
            assert client.app[BACKPRESSURE].level is PressureLevel.NOTHING
