"""spokes.core.redis.deployment: a Redis database belongs to one deployment."""

import asyncio
import os
import sys

import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.archiver import Archiver
from spokes.audit.sql import schema
from spokes.core.errors import ConfigurationError
from spokes.core.redis import keys
from spokes.core.redis.deployment import FORMAT, claim_database, database_state
from spokes.core.settings import Settings
from tests.support.command_line import spokes, spokes_process
from tests.support.deployment import ROOT
from tests.support.events import append_records, record


def settings(environ: dict[str, str], **variables: str) -> Settings:
    return Settings.from_env({**environ, **variables})


async def test_first_process_takes_possession_and_others_of_the_deployment_may_start(
    redis: Redis, environ: dict[str, str]
) -> None:
    for _ in range(3):
        await claim_database(redis, settings(environ))
    stored = await redis.hgetall(keys.DEPLOYMENT)
    assert stored[b"format"] == str(FORMAT).encode()
    assert len(stored[b"fingerprint"]) == 32


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("another-key-of-staging-1234567890ab", "belongs to another deployment of Spokes: its AUDIT_KEY differs"),
        ("", "^AUDIT_KEY is not set, and the Redis database belongs to a deployment with a key. Set AUDIT_KEY"),
    ],
)
async def test_process_of_another_deployment_is_refused(
    redis: Redis, environ: dict[str, str], key: str, words: str
) -> None:
    await claim_database(redis, settings(environ))
    before = await redis.hgetall(keys.DEPLOYMENT)
    with pytest.raises(ConfigurationError, match=words):
        await claim_database(redis, settings(environ, AUDIT_KEY=key))
    assert await redis.hgetall(keys.DEPLOYMENT) == before


@pytest.mark.slow
async def test_commands_are_refused_by_the_database_of_another_deployment(
    redis: Redis, environ: dict[str, str]
) -> None:
    await claim_database(redis, settings(environ))
    other = {**environ, "AUDIT_KEY": "another-key-of-staging-1234567890ab", "CONSOLE_KEY": "k" * 40}
    for command in (("queue",), ("dead", "list"), ("alerts",)):
        result = spokes(other, *command)
        assert (result.returncode, "belongs to another deployment" in result.stderr) == (2, True), (command, result)
    served = spokes_process(other, "serve", "--port", "0")
    assert (served.returncode, "belongs to another deployment" in served.stderr) == (2, True)
    assert spokes(environ, "queue").returncode == 0


async def test_machines_without_audit_key_share_a_database_without_fingerprint(
    redis: Redis, environ: dict[str, str]
) -> None:
    assert await database_state(redis, settings(environ, AUDIT_KEY="")) == "ok"
    assert not await redis.hexists(keys.DEPLOYMENT, "fingerprint")


@pytest.mark.parametrize("key", ["x", "changeme", "abababababababab"])
async def test_weak_audit_key_is_refused_on_an_empty_store(redis: Redis, environ: dict[str, str], key: str) -> None:
    with pytest.raises(ConfigurationError, match="AUDIT_KEY is short enough to guess"):
        await claim_database(redis, settings(environ, AUDIT_KEY=key))
    assert not await redis.exists(keys.DEPLOYMENT)


async def test_weak_audit_key_is_kept_where_redis_holds_records(redis: Redis, environ: dict[str, str]) -> None:
    await redis.xadd(keys.AUDIT_STREAM, {"a": "b"})
    await claim_database(redis, settings(environ, AUDIT_KEY="x"))
    await claim_database(redis, settings(environ, AUDIT_KEY="x"))


async def test_weak_audit_key_is_kept_where_only_the_archive_holds_records(
    redis: Redis, environ: dict[str, str], engine: AsyncEngine, database_url: str
) -> None:
    await schema.upgrade(engine)
    weak = settings(environ, AUDIT_KEY="x", DATABASE_URL=database_url)
    with pytest.raises(ConfigurationError, match="AUDIT_KEY"):
        await claim_database(redis, weak)
    await append_records(redis, record(1))
    await Archiver(redis, engine, "x").drain()
    await redis.flushall()
    await claim_database(redis, weak)


@pytest.mark.parametrize(
    ("stored", "state"),
    [
        ({"format": 9, "oldest_beside": 2}, "ok"),
        ({"format": 9, "oldest_beside": 3}, "newer"),
        ({"format": 0, "oldest_beside": 0}, "older"),
        ({"format": 1, "oldest_beside": 1, "future": "field"}, "ok"),
    ],
)
async def test_versions_outside_the_range_are_refused(
    redis: Redis, environ: dict[str, str], stored: dict[str, int], state: str
) -> None:
    await redis.hset(keys.DEPLOYMENT, mapping=stored)
    assert await database_state(redis, settings(environ)) == state


@pytest.mark.slow
@pytest.mark.parametrize("module", ["ingest", "workers"])
async def test_process_of_another_deployment_exits_with_a_sentence(
    redis: Redis, environ: dict[str, str], module: str, unused_tcp_port: int
) -> None:
    await claim_database(redis, settings(environ))
    variables = {**os.environ, **environ, "AUDIT_KEY": "k" * 32, "PORT": str(unused_tcp_port)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, cwd=ROOT, env=variables, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert (process.returncode, b"belongs to another deployment" in errors) == (2, True), errors
