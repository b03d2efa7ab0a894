"""The schema revision of the store, and its migration, which concurrent processes run only once."""

from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.sql.engine import read_connection, write_connection
from spokes.audit.sql.indexes import build_missing_indexes
from spokes.audit.sql.tables import METADATA
from spokes.audit.sql.versions import adopt_former_revision, read_revision
from spokes.core.errors import AuditUnavailable

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_ADVISORY_LOCK: Final = 0x53504F4B  # arbitrary; PostgreSQL's lock that serialises migrations


class Upgrade(NamedTuple):
    """The revision before an upgrade, None for an empty database, and the one after it."""

    before: str | None
    after: str


async def upgrade(engine: AsyncEngine) -> Upgrade:
    """Migrate the tables to the revision of this code and build missing indexes; do nothing if they have both.

    Only the migration itself may block the archiver: the indexes of existing records are built beside it.

    Raises:
        AuditUnavailable: the database does not answer, or its revision and its tables do not belong together.
    """
    async with write_connection(engine) as connection:
        if connection.dialect.name == "postgresql":
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ADVISORY_LOCK})
        result = await connection.run_sync(_upgrade)
    await build_missing_indexes(engine)
    return result


async def require_current(engine: AsyncEngine) -> None:
    """Check that this code can use the tables; it can use newer ones too, because migrations only add.

    Raises:
        AuditUnavailable: they are missing or older (the message says what to do), or the database does not answer.
    """
    if (current := await revision(engine)) is None:
        raise AuditUnavailable("The audit store has no tables yet: run `python -m spokes migrate`.")
    if current in _older_revisions():
        raise AuditUnavailable("The audit store is older than this code: run `python -m spokes migrate`.")


async def missing_tables(engine: AsyncEngine) -> list[str]:
    """Return the names of the tables that a store of this revision lacks.

    Raises:
        AuditUnavailable: the database does not answer.
    """
    async with read_connection(engine) as connection:
        existing = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
    return sorted({table.name for table in METADATA.sorted_tables} - {*existing})


async def revision(engine: AsyncEngine) -> str | None:
    """Return the revision of the tables, None if there are none.

    Raises:
        AuditUnavailable: the database does not answer.
    """
    async with read_connection(engine) as connection:
        return await connection.run_sync(_revision)


def _revision(connection: Connection) -> str | None:
    return read_revision(connection, _revisions())


def _upgrade(connection: Connection) -> Upgrade:
    before = _revision(connection)
    if before is not None:
        adopt_former_revision(connection, _scripts(_MIGRATIONS), before)
    if before is None or before in _older_revisions():
        config = _config()
        config.attributes["connection"] = connection
        config.attributes["is_new"] = before is None
        command.upgrade(config, "head")
    return Upgrade(before, _revision(connection) or "")


@cache
def _scripts(folder: Path) -> ScriptDirectory:
    """Return the migrations in a folder; each load executes all their modules."""
    return ScriptDirectory(str(folder))


def _revisions() -> frozenset[str]:
    """Return all revisions of this code."""
    return frozenset(script.revision for script in _scripts(_MIGRATIONS).walk_revisions())


def _older_revisions() -> frozenset[str]:
    """Return the revisions before the one of this code."""
    return _revisions() - {_scripts(_MIGRATIONS).get_current_head() or ""}


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config
