"""The revision of the audit tables beside other applications' migrations, and stores of earlier versions."""

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.sql import schema
from spokes.audit.sql.engine import read_connection, write_connection
from spokes.audit.sql.versions import VERSION_TABLE
from spokes.core.errors import AuditUnavailable

pytestmark = pytest.mark.usefixtures("real_migrations")
NEWEST = ScriptDirectory.from_config(schema._config()).get_current_head() or ""


async def run(engine: AsyncEngine, *statements: str) -> None:
    async with write_connection(engine) as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def versions(engine: AsyncEngine, table: str) -> list[str]:
    async with read_connection(engine) as connection:
        return list((await connection.scalars(text(f"SELECT version_num FROM {table} ORDER BY 1"))).all())  # noqa: S608 - constants of this file


def former(*revisions: str) -> list[str]:
    """Return the statements that create alembic's own table with these revisions."""
    create = "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"
    return [create, *(f"INSERT INTO alembic_version VALUES ('{revision}')" for revision in revisions)]  # noqa: S608 - as above


@pytest.mark.parametrize("foreign", ["9f3c1a77b2de", "0001", "0002"])
async def test_revision_of_another_application_is_left_alone(engine: AsyncEngine, foreign: str) -> None:
    await run(engine, *former(foreign))
    assert await schema.upgrade(engine) == (None, NEWEST)
    await schema.require_current(engine)
    assert await versions(engine, "alembic_version") == [foreign]


def upgrade_to_former_revision(connection: Connection) -> None:
    config = schema._config()
    config.attributes["connection"] = connection
    command.upgrade(config, "0002")


@pytest.mark.parametrize("beside", [(), ("9f3c1a77b2de",)])
async def test_store_of_an_earlier_version_is_adopted(engine: AsyncEngine, beside: tuple[str, ...]) -> None:
    async with write_connection(engine) as connection:
        await connection.run_sync(upgrade_to_former_revision)
    await run(engine, f"DROP TABLE {VERSION_TABLE}", *former("0002", *beside))
    assert await schema.upgrade(engine) == ("0002", NEWEST)
    await schema.require_current(engine)
    assert await versions(engine, VERSION_TABLE) == [NEWEST]
    assert await versions(engine, "alembic_version") == ["0002", *beside]


async def test_revision_without_tables_is_an_error(engine: AsyncEngine) -> None:
    await run(engine, *(line.replace("alembic_version", VERSION_TABLE) for line in former("0999")))
    with pytest.raises(AuditUnavailable, match="unknown revision 0999, but the table audit_head and audit_records"):
        await schema.upgrade(engine)


async def test_table_of_another_application_is_an_error(engine: AsyncEngine) -> None:
    await run(engine, "CREATE TABLE audit_records (a INTEGER)")
    with pytest.raises(AuditUnavailable, match="audit_records that Spokes did not create"):
        await schema.upgrade(engine)


async def test_deleted_table_is_an_error(engine: AsyncEngine) -> None:
    await schema.upgrade(engine)
    await run(engine, "DROP TABLE audit_head")
    with pytest.raises(AuditUnavailable, match=f"revision {NEWEST}, but the table audit_head is missing"):
        await schema.require_current(engine)
