"""Indexes of the audit records that a migration adds: built without blocking the archiver.

PostgreSQL builds the index of each partition concurrently, outside of a transaction, and then attaches it to that of
the whole table. SQLite has one writer, so each index has a transaction of its own. An interrupted build is repeated.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from sqlalchemy import Index, inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.schema import CreateIndex

from spokes.audit.sql.engine import read_connection, store_errors, write_connection
from spokes.audit.sql.tables import RECORDS

_ADVISORY_LOCK: Final = 0x53504F4C  # arbitrary; that of the migrations is another one
_POLL_S: Final = 0.5  # between attempts to acquire the lock
_BUILD_TIMEOUT_S: Final = 6 * 3600.0  # of one partition
_VALID: Final = (
    "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
    "WHERE i.indrelid = 'audit_records'::regclass AND i.indisvalid"
)
_PARTITIONS: Final = (
    "SELECT p.inhrelid::regclass::text FROM pg_inherits p WHERE p.inhparent = 'audit_records'::regclass "
    "AND NOT EXISTS (SELECT 1 FROM pg_inherits a JOIN pg_index i ON i.indexrelid = a.inhrelid "
    "WHERE a.inhparent = CAST(:index AS regclass) AND i.indrelid = p.inhrelid) ORDER BY 1"
)


async def missing_indexes(engine: AsyncEngine) -> list[str]:
    """Return the names of the declared indexes that do not exist, or not for every partition.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    async with read_connection(engine) as connection:
        return [str(index.name) for index in await _missing(connection)]


async def build_missing_indexes(engine: AsyncEngine) -> None:
    """Build the indexes that do not exist; do nothing if all do. One process builds at a time.

    Raises:
        AuditUnavailable: the store does not answer; what was built before that is kept.
    """
    if not await missing_indexes(engine):
        return
    if engine.dialect.name != "postgresql":
        await _build_in_sqlite(engine)
        return
    async with _lock(engine):
        async with read_connection(engine) as connection:
            missing = await _missing(connection)
        for index in missing:
            await _build_in_partitions(engine, index)


async def _missing(connection: AsyncConnection) -> list[Index]:
    if connection.dialect.name == "postgresql":
        existing = set(await connection.scalars(text(_VALID)))
    else:
        found = await connection.run_sync(lambda sync: inspect(sync).get_indexes(RECORDS.name))
        existing = {index["name"] for index in found}
    return sorted((index for index in RECORDS.indexes if index.name not in existing), key=lambda index: str(index.name))


async def _build_in_sqlite(engine: AsyncEngine) -> None:
    while True:
        async with write_connection(engine) as connection:
            missing = await _missing(connection)
            if not missing:
                return
            await connection.execute(CreateIndex(missing[0]))


@asynccontextmanager
async def _lock(engine: AsyncEngine) -> AsyncIterator[None]:
    """Hold PostgreSQL's lock on building indexes.

    A transaction holds it, because a pooler may give each statement another session. A concurrent build would wait for
    the end of a snapshot: the transaction keeps none, and nothing waits for the lock in a statement.
    """
    while True:
        async with read_connection(engine) as connection:
            await connection.execute(text("SET TRANSACTION ISOLATION LEVEL READ COMMITTED"))
            if await connection.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": _ADVISORY_LOCK}):
                # It also ends the SELECT, whose portal would otherwise keep its snapshot until the next statement.
                await connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
                yield
                return
        await asyncio.sleep(_POLL_S)


async def _build_in_partitions(engine: AsyncEngine, index: Index) -> None:
    """Build an index in each partition and attach it; that of the table is valid once all are attached."""
    statement = str(CreateIndex(index).compile(dialect=engine.dialect))
    definition = statement.partition(f" ON {RECORDS.name} ")[2]
    async with write_connection(engine) as connection:
        await connection.execute(text(f"CREATE INDEX IF NOT EXISTS {index.name} ON ONLY {RECORDS.name} {definition}"))
        partitions = await connection.scalars(text(_PARTITIONS), {"index": index.name})
    for partition in partitions:
        name = f"{partition}_{str(index.name).removeprefix('ix_audit_records_')}"
        await _run_outside_transaction(engine, f"DROP INDEX CONCURRENTLY IF EXISTS {name}")  # of an interrupted build
        await _run_outside_transaction(engine, f"CREATE INDEX CONCURRENTLY {name} ON {partition} {definition}")
        async with write_connection(engine) as connection:
            await connection.execute(text(f"ALTER INDEX {index.name} ATTACH PARTITION {name}"))


async def _run_outside_transaction(engine: AsyncEngine, statement: str) -> None:
    """Run a statement by itself in one message, so that a pooler does not divide it between two sessions."""
    with store_errors():
        async with engine.connect() as connection:
            pooled = await connection.get_raw_connection()
            session: Any = pooled.driver_connection  # of asyncpg, which ships no types
            await session.execute(statement, timeout=_BUILD_TIMEOUT_S)
