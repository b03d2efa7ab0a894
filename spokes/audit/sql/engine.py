"""The SQL store: how it is opened, and how its failures are told. Rule: SQLAlchemy's errors go no further than this.

SQLite for one machine, PostgreSQL for more; DATABASE_URL comes as the host wrote it.
"""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import asyncpg  # type: ignore[import-untyped]  # ships no types; only its addresses and errors are used
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from spokes.core.errors import AuditUnavailable

# What libpq or a pooler reads in an address, and asyncpg would hand to the server as a setting.
_UNSUPPORTED_BY_ASYNCPG: Final = frozenset(
    {"channel_binding", "pgbouncer", "connect_timeout", "sslcompression", "gssencmode"}
)
_WAL_ATTEMPTS, _WAL_RETRY_S = 100, 0.01  # tries to switch a new SQLite file over, and seconds between two
_STORE_ERRORS: Final = (SQLAlchemyError, OSError, sqlite3.Error, asyncpg.PostgresError, asyncpg.InterfaceError)


def open_engine(address: str, *, statement_timeout_s: float = 60.0) -> AsyncEngine:
    """Build the engine of the store at `address` (`Settings.database_address`); its first use connects.

    Whoever opens it disposes it: `await engine.dispose()`.

    Args:
        answer_s: seconds that PostgreSQL has for one statement.
    """
    if address.startswith("postgresql"):
        return create_async_engine(
            "postgresql+asyncpg://",
            connect_args={
                "dsn": asyncpg_address(address),
                "timeout": 10.0,
                "command_timeout": statement_timeout_s,
                # A process that is cut off in the middle must not hold the chain for as long as TCP hopes for it.
                "server_settings": {"idle_in_transaction_session_timeout": "30000"},
            },
            pool_pre_ping=True,
            pool_size=2,  # hosted plans count connections
            max_overflow=3,
            hide_parameters=True,
        )
    if file := make_url(address).database:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    engine = create_async_engine(address, connect_args={"timeout": 10.0}, hide_parameters=True)
    event.listen(engine.sync_engine, "connect", _set_up_sqlite)
    return engine


def asyncpg_address(address: str) -> str:
    """Return a PostgreSQL address that asyncpg reads, TLS settings included, from one written for any client."""
    parts = urlsplit(address)
    given = [(name, value) for name, value in parse_qsl(parts.query) if name not in _UNSUPPORTED_BY_ASYNCPG]
    # Heroku's guides for other languages say `no-verify` for what libpq calls `require`.
    spoken = [(name, "require" if (name, value) == ("sslmode", "no-verify") else value) for name, value in given]
    return urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(spoken, quote_via=quote, safe="/"), ""))


def _set_up_sqlite(connection: sqlite3.Connection, _: object) -> None:
    cursor = connection.cursor()
    # Readers and the archiver do not wait for each other. `synchronous` stays FULL: an entry leaves the stream after
    # its commit, so a commit must survive the loss of power.
    for _ in range(_WAL_ATTEMPTS):
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError:  # another process switches a new file over; SQLite's own wait is not for this
            time.sleep(_WAL_RETRY_S)
    else:
        cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA secure_delete=ON")  # an id that was erased is gone from the file too
    cursor.close()


@asynccontextmanager
async def read_connection(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Yield a connection to read with.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    try:
        async with engine.connect() as connection:
            yield connection
    except _STORE_ERRORS as error:
        raise _unavailable(error) from error


@asynccontextmanager
async def write_connection(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Yield a connection in a transaction that is committed at the end; of SQLite it is the only one that writes.

    Raises:
        AuditUnavailable: the store does not answer, or did not confirm the commit, which may yet have happened.
    """
    try:
        async with engine.begin() as connection:
            if connection.dialect.name == "sqlite":
                await connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
    except _STORE_ERRORS as error:
        raise _unavailable(error) from error


def ignore_orphaned_copy_errors(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say nothing of what asyncpg leaves behind; for the loop of a process that writes to the store.

    Where it cannot send a COPY any more, whoever asked for that is told so; it has a future that nobody waits for too.
    """
    lost = isinstance(context.get("exception"), asyncpg.ConnectionDoesNotExistError)
    is_task = isinstance(context.get("future"), asyncio.Task)  # somebody's, who was to wait for it
    if is_task or not lost:
        loop.default_exception_handler(context)


def _unavailable(error: BaseException) -> AuditUnavailable:
    """Name the class of the driver's error only: its text may quote what we sent."""
    cause = getattr(error, "orig", None) or error
    cause = cause.__cause__ or cause
    return AuditUnavailable(f"The audit store does not answer ({type(cause).__name__}). DATABASE_URL says where it is.")
