"""Which shape the store has, and how it is brought up to date. Rule: two processes that migrate at once do it once."""

from pathlib import Path
from typing import Final, NamedTuple

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.sql.engine import read_connection, write_connection
from spokes.core.errors import AuditUnavailable

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_ADVISORY_LOCK: Final = 0x53504F4B  # any number, ours: PostgreSQL's advisory lock on migrating


class Upgrade(NamedTuple):
    """What an upgrade did: the revision before it, None for an empty database, and the one after it."""

    before: str | None
    after: str


async def upgrade(engine: AsyncEngine) -> Upgrade:
    """Bring the tables to the revision of this code; does nothing where they are there, or further.

    Raises:
        AuditUnavailable: the database does not answer.
    """
    async with write_connection(engine) as connection:
        if connection.dialect.name == "postgresql":
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ADVISORY_LOCK})
        return await connection.run_sync(_upgrade)


async def require_current(engine: AsyncEngine) -> None:
    """Return when the tables are fit for this code; those of newer code are, as migrations only add.

    Raises:
        AuditUnavailable: they are not there or older, with what to do about it, or the database does not answer.
    """
    if (found := await revision(engine)) is None:
        raise AuditUnavailable("The audit store has no tables yet: run `python -m spokes migrate`.")
    if found in _older_revisions():
        raise AuditUnavailable("The audit store is older than this code: run `python -m spokes migrate`.")


async def revision(engine: AsyncEngine) -> str | None:
    """Return the revision of the tables, None where there are none.

    Raises:
        AuditUnavailable: the database does not answer.
    """
    async with read_connection(engine) as connection:
        return await connection.run_sync(_revision)


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _upgrade(connection: Connection) -> Upgrade:
    before = _revision(connection)
    if before is None or before in _older_revisions():
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return Upgrade(before, _revision(connection) or "")


def _older_revisions() -> frozenset[str]:
    """The revisions that this code knows and has left behind."""
    scripts = ScriptDirectory.from_config(_config())
    return frozenset(script.revision for script in scripts.walk_revisions()) - {scripts.get_current_head()}


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config
