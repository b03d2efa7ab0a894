"""Migrate empty databases with the statements that the first migration of this process executed.

Alembic needs 60 ms of CPU for an empty SQLite file, most of it to build the statements; to execute them takes 10 ms.
Tests of the migrations themselves use the fixture `real_migrations`.
"""

from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, event, inspect

from spokes.audit.sql import schema
from spokes.audit.sql.tables import RECORDS

real_upgrade = schema._upgrade

_Statements = list[tuple[str, Any]]  # with their parameters
_REMEMBERED: Final[dict[tuple[str, Path], _Statements]] = {}  # by dialect and folder of migrations


def upgrade(connection: Connection) -> schema.Upgrade:
    """Migrate a database in the caller's transaction, as `schema.upgrade` does."""
    if schema._revision(connection) is not None:
        return real_upgrade(connection)
    key = (connection.dialect.name, schema._MIGRATIONS)
    if key not in _REMEMBERED:
        _REMEMBERED[key] = _record_migration(connection)
    else:
        for statement, parameters in _REMEMBERED[key]:
            connection.exec_driver_sql(statement, parameters)
    return schema.Upgrade(None, schema._revision(connection) or "")


def _record_migration(connection: Connection) -> _Statements:
    """Migrate an empty database; return all statements that changed it."""
    statements: _Statements = []

    def record(_: object, __: object, statement: str, parameters: object, *___: object) -> None:
        if not statement.lstrip().startswith(("SELECT", "PRAGMA")):
            statements.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", record)
    try:
        real_upgrade(connection)
        if connection.dialect.name == "sqlite":  # one transaction for them all, as there are no records yet
            _build_missing_indexes(connection)
    finally:
        event.remove(connection, "before_cursor_execute", record)
    return statements


def _build_missing_indexes(connection: Connection) -> None:
    existing = {index["name"] for index in inspect(connection).get_indexes(RECORDS.name)}
    for index in sorted(RECORDS.indexes, key=lambda index: str(index.name)):
        if index.name not in existing:
            index.create(connection)
