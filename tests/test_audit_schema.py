import asyncio
import shutil
from collections import Counter
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from audit import schema
from audit.store import reading
from audit.tables import METADATA
from core.errors import AuditUnavailable

NEXT = '''
"""A column more."""
import sqlalchemy as sa
from alembic import op
revision = "next"
down_revision = "0001"
def upgrade():
    op.add_column("audit_records", sa.Column("more", sa.Text))
'''


@pytest.fixture
def newer_code(engine: AsyncEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Migrations that are one further; `monkeypatch.undo` makes the code old again."""
    scripts = tmp_path / "migrations"
    shutil.copytree(schema._SCRIPTS, scripts)
    (scripts / "versions" / "next.py").write_text(NEXT)
    return scripts


async def test_an_empty_database_gets_its_tables(engine: AsyncEngine) -> None:
    assert await schema.upgrade(engine) == (None, "0001")


async def test_a_second_upgrade_changes_nothing(engine: AsyncEngine) -> None:
    await schema.upgrade(engine)
    assert await schema.upgrade(engine) == ("0001", "0001")


async def test_upgrades_at_once_happen_once(engine: AsyncEngine) -> None:
    done = await asyncio.gather(*(schema.upgrade(engine) for _ in range(3)))
    assert Counter(each.before for each in done) == {None: 1, "0001": 2}


async def test_migrations_and_tables_agree(engine: AsyncEngine) -> None:
    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), METADATA))

    await schema.upgrade(engine)
    async with reading(engine) as connection:
        assert await connection.run_sync(differences) == []


async def test_a_database_without_tables_is_refused_with_advice(engine: AsyncEngine) -> None:
    with pytest.raises(AuditUnavailable, match="run `python -m console migrate`"):
        await schema.require(engine)


async def test_an_older_database_is_refused_with_advice(
    engine: AsyncEngine, newer_code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await schema.upgrade(engine)
    monkeypatch.setattr(schema, "_SCRIPTS", newer_code)
    with pytest.raises(AuditUnavailable, match="older than this code: run `python -m console migrate`"):
        await schema.require(engine)


async def test_an_older_database_is_upgraded(
    engine: AsyncEngine, newer_code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await schema.upgrade(engine)
    monkeypatch.setattr(schema, "_SCRIPTS", newer_code)
    assert await schema.upgrade(engine) == ("0001", "next")


async def test_a_newer_database_is_good_enough_for_older_code(
    engine: AsyncEngine, newer_code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a release rolls out, old workers meet the new tables."""
    monkeypatch.setattr(schema, "_SCRIPTS", newer_code)
    await schema.upgrade(engine)
    monkeypatch.undo()
    await schema.require(engine)
    assert await schema.upgrade(engine) == ("next", "next")
