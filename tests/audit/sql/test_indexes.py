"""Indexes that a migration adds are built while the archiver works."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from alembic import command
from redis.asyncio import Redis
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.archiver import Archiver
from spokes.audit.sql import schema
from spokes.audit.sql.engine import read_connection, write_connection
from spokes.audit.sql.indexes import missing_indexes
from tests.support.deployment import KEY
from tests.support.events import append_records, record

pytestmark = pytest.mark.usefixtures("real_migrations")
NEW = [f"ix_audit_records_{name}" for name in ("dead", "dead_cause", "duplicate", "event_id")]
postgresql_only = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@pytest.fixture
async def before_indexes(engine: AsyncEngine) -> None:
    """Create a store at the revision before these indexes."""

    def upgrade(connection: Connection) -> None:
        config = schema._config()
        config.attributes |= {"connection": connection, "is_new": True}
        command.upgrade(config, "0005")

    async with write_connection(engine) as connection:
        await connection.run_sync(upgrade)


@asynccontextmanager
async def old_snapshot(engine: AsyncEngine) -> AsyncIterator[None]:
    """Read in one long transaction, for whose end a concurrent build waits."""
    async with read_connection(engine) as connection:
        await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        await connection.scalar(text("SELECT count(*) FROM audit_head"))
        yield


async def wait_for_build(engine: AsyncEngine) -> None:
    """Wait until an index is being built beside other work, after the migration."""
    building = "SELECT count(*) FROM pg_stat_progress_create_index WHERE command = 'CREATE INDEX CONCURRENTLY'"
    async with asyncio.timeout(20):
        while True:
            async with read_connection(engine) as connection:
                if await connection.scalar(text(building)):
                    return
            await asyncio.sleep(0.02)


@pytest.mark.usefixtures("before_indexes")
async def test_upgrade_builds_the_indexes_that_are_missing(engine: AsyncEngine) -> None:
    assert await missing_indexes(engine) == NEW
    await schema.upgrade(engine)
    assert await missing_indexes(engine) == []


async def test_upgrade_builds_an_index_that_was_dropped(engine: AsyncEngine) -> None:
    await schema.upgrade(engine)
    async with write_connection(engine) as connection:
        await connection.execute(text("DROP INDEX ix_audit_records_object_id"))
    assert await missing_indexes(engine) == ["ix_audit_records_object_id"]
    await schema.upgrade(engine)
    assert await missing_indexes(engine) == []


@postgresql_only
@pytest.mark.usefixtures("before_indexes")
async def test_records_are_archived_while_an_index_is_built(redis: Redis, engine: AsyncEngine) -> None:
    async with old_snapshot(engine):
        upgrade = asyncio.create_task(schema.upgrade(engine))
        await wait_for_build(engine)
        await append_records(redis, record(1), record(2))
        assert await Archiver(redis, engine, KEY).drain() == 2
        assert not upgrade.done()
    await upgrade
    assert await missing_indexes(engine) == []


@postgresql_only
@pytest.mark.usefixtures("before_indexes")
async def test_interrupted_build_is_repeated(engine: AsyncEngine) -> None:
    async with old_snapshot(engine):
        upgrade = asyncio.create_task(schema.upgrade(engine))
        await wait_for_build(engine)
        upgrade.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upgrade
    assert await missing_indexes(engine) == NEW
    await schema.upgrade(engine)
    assert await missing_indexes(engine) == []


@postgresql_only
@pytest.mark.usefixtures("before_indexes")
async def test_concurrent_upgrades_build_each_index_once(engine: AsyncEngine) -> None:
    await asyncio.gather(*(schema.upgrade(engine) for _ in range(3)))
    assert await missing_indexes(engine) == []
