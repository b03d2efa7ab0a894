"""Open the SQL store, and turn the errors of SQLAlchemy and its drivers into `AuditUnavailable`.

The store is SQLite on one machine, PostgreSQL on several. DATABASE_URL may be in any form that hosts provide.
"""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import asyncpg  # type: ignore[import-untyped]  # ships no types; only its addresses and errors are used
from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from spokes.audit.sql.error_sentences import error_sentence
from spokes.core.errors import AuditReadOnly, AuditUnavailable
from spokes.core.process.private_files import create_private_file, make_folder

# Parameters of libpq or of a pooler, which asyncpg would pass to the server as settings.
_LIBPQ_ONLY: Final = frozenset({"channel_binding", "pgbouncer", "connect_timeout", "sslcompression", "gssencmode"})
_WAL_ATTEMPTS, _WAL_RETRY_S = 100, 0.01  # to switch a new SQLite file to WAL
_SQLITE_TIMEOUT_S: Final = 10.0  # for which a writer waits for another one
_READ_ONLY: Final = "25006"  # SQLSTATE read_only_sql_transaction
BEGIN_SQLITE: Final = "BEGIN IMMEDIATE"
_STORE_ERRORS: Final = (SQLAlchemyError, OSError, sqlite3.Error, asyncpg.PostgresError, asyncpg.InterfaceError)


def open_engine(address: str, *, statement_timeout_s: float = 60.0) -> AsyncEngine:
    """Build the engine of the store at `address` (`Settings.database_address`); its first use connects.

    The caller disposes it: `await engine.dispose()`.

    Args:
        statement_timeout_s: limit for one statement of PostgreSQL.
    """
    if address.startswith("postgresql"):
        return create_async_engine(
            "postgresql+asyncpg://",
            connect_args={
                "dsn": asyncpg_address(address),
                "timeout": 10.0,
                "command_timeout": statement_timeout_s,
                # A transaction pooler, such as pgbouncer, gives each transaction another session: no prepared
                # statement outlives its transaction, and nothing is set at connect.
                "statement_cache_size": 0,
                "prepared_statement_cache_size": 0,
                "prepared_statement_name_func": _unnamed_statement,
            },
            pool_pre_ping=True,
            pool_size=2,  # hosted plans limit connections
            max_overflow=3,
            hide_parameters=True,
        )
    if file := make_url(address).database:
        make_folder(Path(file).parent, setting="DATABASE_URL (without it, DATA_DIR)")
        with contextlib.suppress(OSError):  # connecting says what is wrong
            create_private_file(Path(file))  # SQLite gives its journal files the same mode
    engine = create_async_engine(address, connect_args={"timeout": _SQLITE_TIMEOUT_S}, hide_parameters=True)
    event.listen(engine.sync_engine, "do_connect", _open_first)
    event.listen(engine.sync_engine, "connect", _set_up_sqlite)
    return engine


def open_sqlite_engine(path: str) -> Engine:
    """Build an engine of a SQLite file for use in threads. The caller disposes it."""
    address = URL.create("sqlite", database=path)
    engine = create_engine(address, connect_args={"timeout": _SQLITE_TIMEOUT_S}, hide_parameters=True)
    event.listen(engine, "connect", _set_up_sqlite)
    return engine


def _unnamed_statement() -> str:
    return ""


def asyncpg_address(address: str) -> str:
    """Return a PostgreSQL address for asyncpg, TLS settings included, from one written for any client."""
    parts = urlsplit(address)
    supported = [(name, value) for name, value in parse_qsl(parts.query) if name not in _LIBPQ_ONLY]
    # Heroku's guides for other languages use `no-verify` for what libpq calls `require`.
    query = [(name, "require" if (name, value) == ("sslmode", "no-verify") else value) for name, value in supported]
    return urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(query, quote_via=quote, safe="/"), ""))


def _open_first(_: object, __: object, arguments: Sequence[Any], options: Mapping[str, Any]) -> None:
    """Open the file in this thread, too: of a failed attempt aiosqlite's thread outlives a command's event loop.

    Raises:
        sqlite3.Error: the file cannot be opened.
    """
    sqlite3.connect(*arguments, **options).close()


def _set_up_sqlite(connection: sqlite3.Connection, _: object) -> None:
    cursor = connection.cursor()
    # With WAL, readers and the archiver do not block each other. `synchronous` stays FULL: an entry leaves the stream
    # after its commit, so a commit must survive a power failure.
    for _ in range(_WAL_ATTEMPTS):
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError:  # another process is switching the file; SQLite's timeout does not cover it
            time.sleep(_WAL_RETRY_S)
    else:
        cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA secure_delete=ON")  # erased ids are overwritten in the file
    cursor.close()


@contextlib.contextmanager
def store_errors() -> Iterator[None]:
    """Turn the errors of SQLAlchemy and its drivers into ours.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    try:
        yield
    except _STORE_ERRORS as error:
        raise _unavailable(error) from error


@asynccontextmanager
async def read_connection(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Yield a connection for reading.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    with store_errors():
        async with engine.connect() as connection:
            yield connection


@asynccontextmanager
async def write_connection(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Yield a connection in a transaction that is committed at the end; with SQLite it is the only writer.

    Raises:
        AuditUnavailable: the store does not answer, or did not confirm the commit, which may still have happened.
    """
    try:
        async with engine.begin() as connection:
            if connection.dialect.name == "sqlite":
                await connection.exec_driver_sql(BEGIN_SQLITE)
            else:  # a process that loses its network must not lock the chain until TCP gives up
                await connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 30000")
            yield connection
    except _STORE_ERRORS as error:
        if _sqlstate(error) == _READ_ONLY:
            await engine.dispose()  # the primary has moved: the next connection asks for its address again
        raise _unavailable(error) from error


def ignore_orphaned_copy_errors(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Exception handler for the event loop of a process that writes to the store.

    asyncpg reports a broken COPY to the caller, and also leaves a future with the same error that nothing awaits. That
    second error is ignored.
    """
    is_connection_lost = isinstance(context.get("exception"), asyncpg.ConnectionDoesNotExistError)
    is_task = isinstance(context.get("future"), asyncio.Task)  # one of our tasks, whose error must be reported
    if is_task or not is_connection_lost:
        loop.default_exception_handler(context)


def _sqlstate(error: BaseException) -> str:
    """Return PostgreSQL's code of an error, an empty text without one."""
    return str(getattr(getattr(error, "orig", None) or error, "sqlstate", None) or "")


def _unavailable(error: BaseException) -> AuditUnavailable:
    """Return our error with only the code or class of the driver's: its text may quote what we sent."""
    if _sqlstate(error) == _READ_ONLY:
        return AuditReadOnly(
            "The audit store is read only: DATABASE_URL names a replica, or a server that was made read only. Set "
            "DATABASE_URL to the primary."
        )
    return AuditUnavailable(error_sentence(error))
