"""Tests whose store is migrated with remembered statements have the store that Alembic's migration creates."""

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.sql import schema
from spokes.audit.sql.engine import read_connection, write_connection
from spokes.audit.sql.tables import METADATA
from spokes.audit.sql.versions import VERSION_TABLE
from tests.support import remembered_migration

DEFINITIONS = {
    "sqlite": "SELECT sql FROM sqlite_master ORDER BY rowid",
    "postgresql": "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,"
    " pg_get_indexdef(c.oid) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
    " WHERE c.relnamespace = 'public'::regnamespace"
    " ORDER BY c.oid, a.attnum",
}


async def contents(engine: AsyncEngine) -> list[object]:
    """Migrate; return the definitions of all tables and indexes, and all rows; then drop everything."""
    await schema.upgrade(engine)
    is_postgresql = engine.dialect.name == "postgresql"
    tables = [*METADATA.tables, VERSION_TABLE]
    async with read_connection(engine) as connection:
        statements = [DEFINITIONS[engine.dialect.name], *(f"SELECT * FROM {table}" for table in tables)]  # noqa: S608 - our own names
        found = [list(await connection.execute(text(statement))) for statement in statements]
    async with write_connection(engine) as connection:
        for table in tables:
            await connection.execute(text(f"DROP TABLE {table} {'CASCADE' if is_postgresql else ''}"))
    return [row for rows in found for row in rows]


async def test_remembered_migration_creates_the_store_of_the_real_one(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered_migration, "_REMEMBERED", {})
    recorded = await contents(engine)
    remembered = await contents(engine)
    monkeypatch.setattr(schema, "_upgrade", remembered_migration.real_upgrade)
    assert recorded == remembered == await contents(engine)
    assert len(recorded) > 2 * len(METADATA.tables)
