"""Where the revision of the audit tables is stored: in a table of our own, since other applications use alembic's.

Earlier versions of Spokes stored it in `alembic_version`. A store of theirs keeps that row, which their processes read
while they run beside ours; its revision is copied into our table once.
"""

from collections.abc import Collection
from typing import Final

from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from spokes.audit.sql.tables import HEAD, RECORDS
from spokes.core.errors import AuditUnavailable

VERSION_TABLE: Final = "spokes_alembic_version"
_FORMER_REVISIONS: Final = frozenset({"0001", "0002"})


def read_revision(connection: Connection, known: Collection[str]) -> str | None:
    """Return the revision of the audit tables, None if there are none.

    Args:
        known: the revisions of this code; a store of a newer version has another one.

    Raises:
        AuditUnavailable: revision and tables do not belong together.
    """
    inspector = inspect(connection)
    tables = {RECORDS.name, HEAD.name}
    existing = {table for table in tables if inspector.has_table(table)}
    revision = _stored_revision(connection)
    if revision is None and existing == tables:
        revision = _former_revision(connection)
    if revision is None and existing:
        raise AuditUnavailable(
            f"The database has a table {' and '.join(sorted(existing))} that Spokes did not create, or whose revision "
            "was deleted. Set DATABASE_URL to another database, or restore the whole database from a backup."
        )
    if revision is not None and existing != tables:
        kind = "" if revision in known else "unknown "
        raise AuditUnavailable(
            f"The database is at the {kind}revision {revision}, but the table "
            f"{' and '.join(sorted(tables - existing))} is missing. Restore the whole database from a backup, or drop "
            f"the table {VERSION_TABLE} to begin a new audit."
        )
    return revision


def adopt_former_revision(connection: Connection, scripts: ScriptDirectory, revision: str) -> None:
    """Copy the revision of a store of an earlier version into our table, in the caller's transaction."""
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    if context.get_current_revision() is None:
        context.stamp(scripts, revision)


def _stored_revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()


def _former_revision(connection: Connection) -> str | None:
    """Return our revision from alembic's own table, which may hold another application's as well."""
    heads = MigrationContext.configure(connection).get_current_heads()
    return next((head for head in heads if head in _FORMER_REVISIONS), None)
