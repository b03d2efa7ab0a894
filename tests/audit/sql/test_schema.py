import asyncio
import shutil
from collections import Counter
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from redis.asyncio import Redis
from sqlalchemy import Connection, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.archiver import Archiver
from spokes.audit.chain import GENESIS, chain_rows
from spokes.audit.rows import to_row
from spokes.audit.sql import schema
from spokes.audit.sql.engine import read_connection, write_connection
from spokes.audit.sql.queries import unsigned_until
from spokes.audit.sql.tables import HEAD, METADATA, RECORDS
from spokes.audit.sql.versions import VERSION_TABLE
from spokes.audit.stream import append_now
from spokes.audit.verification.verify import verify
from spokes.core.clock import now_ms
from spokes.core.errors import AuditUnavailable
from tests.support.deployment import KEY
from tests.support.events import record

pytestmark = pytest.mark.usefixtures("real_migrations")
NEXT = '''
"""One more column."""
import sqlalchemy as sa
from alembic import op
revision = "next"
down_revision = "0014"
def upgrade():
    op.add_column("audit_records", sa.Column("more", sa.Text))
'''


@pytest.fixture
def newer_code(engine: AsyncEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of migrations with one more revision; `monkeypatch.undo` restores ours."""
    scripts = tmp_path / "migrations"
    shutil.copytree(schema._MIGRATIONS, scripts)
    (scripts / "versions" / "next.py").write_text(NEXT)
    return scripts


async def test_empty_database_gets_its_tables(engine: AsyncEngine) -> None:
    assert await schema.upgrade(engine) == (None, "0014")


async def test_second_upgrade_changes_nothing(engine: AsyncEngine) -> None:
    await schema.upgrade(engine)
    assert await schema.upgrade(engine) == ("0014", "0014")


async def test_concurrent_upgrades_migrate_once(engine: AsyncEngine) -> None:
    upgrades = await asyncio.gather(*(schema.upgrade(engine) for _ in range(3)))
    assert Counter(upgrade.before for upgrade in upgrades) == {None: 1, "0014": 2}


async def test_migrations_and_tables_agree(engine: AsyncEngine) -> None:
    def differences(connection: Connection) -> list[str]:
        """Return the differences, without the month by which PostgreSQL partitions."""
        context = MigrationContext.configure(connection, opts={"include_object": is_ours})
        return [str(difference) for difference in compare_metadata(context, METADATA)]

    def is_ours(_: object, name: str, kind: str, *rest: object) -> bool:
        return name not in {"month", "uq_audit_records_id", VERSION_TABLE} and "audit_records_" not in (
            name if kind == "table" else ""
        )

    await schema.upgrade(engine)
    async with read_connection(engine) as connection:
        assert await connection.run_sync(differences) == []


async def create_first_revision(redis: Redis, engine: AsyncEngine) -> None:
    """Create a store at revision 0001, with three records."""

    def upgrade(connection: Connection) -> None:
        config = schema._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")

    rows = [to_row(record(number).as_dict()) for number in (1, 2, 3)]
    old = [{name: row[name] for name in row if name != "object_hash"} for row in chain_rows(rows, 0, GENESIS)]
    async with write_connection(engine) as connection:
        await connection.run_sync(upgrade)
        columns = [column for column in RECORDS.c if column.name != "object_hash"]
        values = ", ".join(f":{column.name}" for column in columns)
        names = ", ".join(column.name for column in columns)
        await connection.execute(text(f"INSERT INTO audit_records ({names}) VALUES ({values})"), old)  # noqa: S608 - our own names
        await connection.execute(update(HEAD).values(seq=old[-1]["seq"], hash=old[-1]["hash"]))


async def test_records_of_first_revision_stay_and_verify(redis: Redis, engine: AsyncEngine) -> None:
    await create_first_revision(redis, engine)
    assert await schema.upgrade(engine) == ("0001", "0014")
    await append_now(redis, record(4))
    await Archiver(redis, engine, KEY).drain()
    result = await verify(engine, master_key=KEY)
    assert (result.is_intact, result.records) == (True, 4)


async def test_empty_store_of_an_earlier_version_accepts_its_unsigned_entries(
    redis: Redis, engine: AsyncEngine
) -> None:
    await create_first_revision(redis, engine)
    async with write_connection(engine) as connection:
        await connection.execute(text("DELETE FROM audit_records"))
        await connection.execute(text("UPDATE audit_head SET seq = 0"))
    await schema.upgrade(engine)
    assert await unsigned_until(engine) > now_ms()


async def test_database_without_tables_is_rejected_with_advice(engine: AsyncEngine) -> None:
    with pytest.raises(AuditUnavailable, match="run `python -m spokes migrate`"):
        await schema.require_current(engine)


async def test_older_database_is_rejected_with_advice(
    engine: AsyncEngine, newer_code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await schema.upgrade(engine)
    monkeypatch.setattr(schema, "_MIGRATIONS", newer_code)
    with pytest.raises(AuditUnavailable, match="older than this code: run `python -m spokes migrate`"):
        await schema.require_current(engine)


async def test_older_database_is_upgraded(
    engine: AsyncEngine, newer_code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await schema.upgrade(engine)
    monkeypatch.setattr(schema, "_MIGRATIONS", newer_code)
    assert await schema.upgrade(engine) == ("0014", "next")


async def test_newer_database_works_with_older_code(
    engine: AsyncEngine, newer_code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """During a deploy, old workers use the new tables."""
    monkeypatch.setattr(schema, "_MIGRATIONS", newer_code)
    await schema.upgrade(engine)
    monkeypatch.undo()
    await schema.require_current(engine)
    assert await schema.upgrade(engine) == ("next", "next")
