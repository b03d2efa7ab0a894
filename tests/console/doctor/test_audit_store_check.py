"""The audit store in the first states of a deployment, and broken, on both databases."""

import asyncio
import itertools
import time

import pytest
from redis.asyncio import Redis
from sqlalchemy import delete, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit import retention
from spokes.audit.archiver import Archiver
from spokes.audit.sql import schema
from spokes.audit.sql.engine import write_connection
from spokes.audit.sql.tables import HEAD, RECORDS
from spokes.console.doctor.audit_store_check import check_audit_store
from spokes.console.doctor.findings import Finding, FindingLevel
from spokes.core.settings import Settings
from tests.support.deployment import KEY
from tests.support.events import append_records, record

DAY_MS = 86_400_000


@pytest.fixture
def store_settings(environ: dict[str, str], database_url: str) -> Settings:
    return Settings.from_env({**environ, "DATABASE_URL": database_url})


async def problems(settings: Settings) -> list[Finding]:
    return [finding for finding in await check_audit_store(settings) if finding.level is not FindingLevel.OK]


async def archive(redis: Redis, engine: AsyncEngine) -> None:
    await append_records(redis, *(record(number) for number in range(3)))
    await Archiver(redis, engine, KEY, checkpoint_every=1).drain()


@pytest.mark.parametrize("state", ["new", "migrated", "first events", "purged", "events after a purge"])
async def test_healthy_store_is_silent_in_every_state(
    store_settings: Settings, engine: AsyncEngine, redis: Redis, state: str
) -> None:
    if state != "new":
        await schema.upgrade(engine)
    if state not in {"new", "migrated"}:
        await archive(redis, engine)
    if "purge" in state:
        await retention.purge(engine, KEY, before_ms=time.time_ns() // 1_000_000 + DAY_MS)
    if state == "events after a purge":
        await append_records(redis, *(record(number) for number in range(10, 13)))
        await Archiver(redis, engine, KEY).drain()
    assert await problems(store_settings) == []
    async with engine.connect() as connection:
        tables = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
    assert "spokes_doctor_probe" not in tables


async def test_store_is_silent_while_the_archiver_writes(
    store_settings: Settings, engine: AsyncEngine, redis: Redis
) -> None:
    await schema.upgrade(engine)
    await archive(redis, engine)
    archiver, has_checked = Archiver(redis, engine, KEY), asyncio.Event()

    async def write() -> int:
        for number in itertools.count(10):
            await append_records(redis, record(number))
            await archiver.drain()
            if has_checked.is_set():
                return number - 10
        raise AssertionError

    writing = asyncio.create_task(write())
    found = [finding for _ in range(25) for finding in await problems(store_settings)]
    has_checked.set()
    assert await writing > 5
    assert [finding for finding in found if finding.level is FindingLevel.FAULT] == []


async def test_other_audit_key_is_a_fault(
    environ: dict[str, str], database_url: str, engine: AsyncEngine, redis: Redis
) -> None:
    await schema.upgrade(engine)
    await archive(redis, engine)
    other = Settings.from_env({**environ, "DATABASE_URL": database_url, "AUDIT_KEY": "another-key-4f7c3a9e5b2d80467a"})
    [finding] = await problems(other)
    assert (finding.level, "AUDIT_KEY is wrong" in finding.sentence) == (FindingLevel.FAULT, True)


@pytest.mark.parametrize("table", [HEAD, RECORDS])
async def test_deleted_rows_are_a_fault(
    store_settings: Settings, engine: AsyncEngine, redis: Redis, table: object
) -> None:
    await schema.upgrade(engine)
    await archive(redis, engine)
    async with write_connection(engine) as connection:
        await connection.execute(delete(table))  # type: ignore[arg-type]  # one of two tables
    [finding] = await problems(store_settings)
    assert (finding.level, "part of the audit was deleted" in finding.sentence) == (FindingLevel.FAULT, True)


@pytest.mark.parametrize("has_tables", [True, False])
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_read_only_store_is_a_fault(
    store_settings: Settings, engine: AsyncEngine, database_url: str, has_tables: bool, redis: Redis
) -> None:
    if has_tables:
        await schema.upgrade(engine)
    async with write_connection(engine) as connection:
        name = await connection.scalar(text("SELECT current_database()"))
        await connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
    [finding] = await problems(store_settings)
    assert (finding.level, "is read only" in finding.sentence) == (FindingLevel.FAULT, True)


async def test_missing_index_is_a_warning_that_says_how_to_build_it(
    store_settings: Settings, engine: AsyncEngine
) -> None:
    await schema.upgrade(engine)
    async with write_connection(engine) as connection:
        await connection.execute(text("DROP INDEX ix_audit_records_dead"))
    [finding] = await problems(store_settings)
    assert (finding.level, finding.topic) == (FindingLevel.WARNING, "audit store")
    assert "ix_audit_records_dead" in finding.sentence
    assert "spokes migrate" in finding.sentence
