import asyncio
import gc
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]  # ships no types
import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.chain_writer import _COLUMNS, _insert
from spokes.audit.sql import schema
from spokes.audit.sql.engine import (
    _set_up_sqlite,
    asyncpg_address,
    ignore_orphaned_copy_errors,
    open_engine,
    read_connection,
    write_connection,
)
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import HEAD
from spokes.core.errors import AuditUnavailable
from spokes.core.settings import Settings
from tests.support.command_line import spokes_process


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("postgres://u:p@h:5432/d", "postgresql://u:p@h:5432/d"),
        ("postgres://u:p@h/d?sslmode=require", "postgresql://u:p@h/d?sslmode=require"),
        ("postgres://u:p@h/d?sslmode=no-verify", "postgresql://u:p@h/d?sslmode=require"),
        ("postgresql://u:p@h/d?sslmode=require&channel_binding=require", "postgresql://u:p@h/d?sslmode=require"),
        ("postgresql://u:p%40%2F@h/d", "postgresql://u:p%40%2F@h/d"),
        ("postgresql://u:@/d?host=/tmp/a%20b", "postgresql://u@/d?host=/tmp/a%20b"),
        ("postgresql://u@h/d?application_name=a%26b", "postgresql://u@h/d?application_name=a%26b"),
    ],
)
def test_address_written_for_any_client_is_translated(address: str, expected: str) -> None:
    database_address = Settings.from_env({"DATABASE_URL": address}).database_address
    assert asyncpg_address(database_address) == expected


async def test_error_of_unreachable_store_does_not_contain_its_password() -> None:
    engine = open_engine("postgresql+asyncpg://u:pass-word@127.0.0.1:1/d?sslmode=prefer")
    with pytest.raises(AuditUnavailable, match="does not answer") as raised:
        async with read_connection(engine):
            pass
    assert "pass-word" not in str(raised.value)
    await engine.dispose()


async def test_failed_transaction_leaves_nothing(engine: AsyncEngine) -> None:
    async def fail() -> None:
        async with write_connection(engine) as connection:
            await connection.execute(text("CREATE TABLE half (a INTEGER)"))
            await connection.execute(text("SELECT * FROM nowhere"))

    with pytest.raises(AuditUnavailable):
        await fail()
    with pytest.raises(AuditUnavailable):
        await fetch(engine, select(text("a")).select_from(text("half")))


async def _copy_on_lost_connection(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TEMP TABLE copied (a text)")

    def rows_that_lose_the_connection() -> Iterator[tuple[str]]:
        connection.terminate()
        yield ("a" * 1_000_000,)

    with pytest.raises(AttributeError):  # from asyncpg, whose transport is None now
        await connection.copy_records_to_table("copied", records=rows_that_lose_the_connection())


async def test_broken_copy_reports_one_error_only(postgres_url: str, caplog: pytest.LogCaptureFixture) -> None:
    asyncio.get_running_loop().set_exception_handler(ignore_orphaned_copy_errors)
    await _copy_on_lost_connection(postgres_url)
    await asyncio.sleep(0)  # the event loop closes the connection in its next iteration
    gc.collect()
    assert not caplog.records


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_connection_lost_during_copy_raises_audit_unavailable(engine: AsyncEngine) -> None:
    asyncio.get_running_loop().set_exception_handler(ignore_orphaned_copy_errors)
    await schema.upgrade(engine)

    async def insert_with_lost_connection() -> None:
        async with write_connection(engine) as connection:
            raw = (await connection.get_raw_connection()).driver_connection

            class ConnectionLoser:
                def __index__(self) -> int:
                    raw.terminate()
                    return 1

            await connection.run_sync(_insert, [{**dict.fromkeys(_COLUMNS), "seq": ConnectionLoser()}])

    with pytest.raises(AuditUnavailable, match="does not answer"):
        await insert_with_lost_connection()


async def _fails_alone(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("error", [KeyError(), asyncpg.ConnectionDoesNotExistError()])
async def test_exception_of_unawaited_task_is_logged(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    asyncio.get_running_loop().set_exception_handler(ignore_orphaned_copy_errors)
    task = asyncio.create_task(_fails_alone(error))
    await asyncio.wait({task})
    del task
    gc.collect()
    assert "never retrieved" in caplog.text


async def test_exception_of_unawaited_future_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    asyncio.get_running_loop().set_exception_handler(ignore_orphaned_copy_errors)
    asyncio.get_running_loop().create_future().set_exception(KeyError())
    gc.collect()
    assert "never retrieved" in caplog.text


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_read_only_server_is_left_and_asked_for_again(engine: AsyncEngine) -> None:
    """After a failover the former primary answers, read only: only a new connection reaches the new one."""
    await schema.upgrade(engine)
    await engine.dispose()  # so that the pool has no session but the next one
    async with engine.connect() as connection:
        await connection.execute(text("SET default_transaction_read_only = on"))
        await connection.commit()  # this session stays in the pool
    with pytest.raises(AuditUnavailable, match="read only"):
        async with write_connection(engine) as connection:
            await connection.execute(select(HEAD.c.seq).with_for_update())
    async with write_connection(engine) as connection:
        await connection.execute(select(HEAD.c.seq).with_for_update())


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_idle_transactions_of_writers_end(engine: AsyncEngine) -> None:
    async with write_connection(engine) as connection:
        assert await connection.scalar(text("SHOW idle_in_transaction_session_timeout")) == "30s"


def test_records_and_stream_load_without_sqlalchemy() -> None:
    """The web process appends records and must stay small."""
    check = "import sys, spokes.audit.records, spokes.audit.stream; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


class _LockedCursor(sqlite3.Cursor):
    """A cursor that fails three times, as SQLite's does while another process switches a new file to WAL."""

    failures_left = 3

    def execute(self, sql: str, parameters: object = ()) -> "_LockedCursor":
        if "journal_mode" in sql and self.failures_left:
            self.failures_left -= 1
            raise sqlite3.OperationalError("database is locked")
        super().execute(sql, parameters)  # type: ignore[arg-type]  # no statement here has parameters
        return self


class _Connection(sqlite3.Connection):
    def cursor(self) -> _LockedCursor:  # type: ignore[override]  # narrower on purpose
        return _LockedCursor(self)


def test_concurrent_switch_to_wal_is_waited_out(tmp_path: Path) -> None:
    """Two processes that start at once hit this about once in 300 times, too rarely to provoke it here."""
    connection = sqlite3.connect(tmp_path / "new.sqlite", factory=_Connection)
    _set_up_sqlite(connection, None)
    [mode] = sqlite3.Cursor(connection).execute("PRAGMA journal_mode").fetchone()
    connection.close()
    assert mode == "wal"


async def test_commits_are_kept_when_another_process_closes_sqlite_after_a_second_engine_was_opened(
    tmp_path: Path,
) -> None:
    """SQLite's locks end when their process closes any descriptor of the file; then the write-ahead log is deleted."""
    file = tmp_path / "audit.sqlite"
    address = f"sqlite+aiosqlite:///{file}"
    first = open_engine(address)
    async with first.begin() as connection:
        await connection.execute(text("CREATE TABLE numbers (number INTEGER)"))
    await open_engine(address).dispose()
    read = (
        "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM numbers').fetchone()[0])"
    )
    for count in (0, 1):
        command = [sys.executable, "-c", read, str(file)]
        reader = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        output, _ = await reader.communicate()
        assert int(output) == count
        async with first.begin() as connection:
            await connection.execute(text("INSERT INTO numbers VALUES (1)"))
    await first.dispose()


def test_command_with_a_file_that_cannot_be_opened_prints_one_sentence(tmp_path: Path) -> None:
    environ = {"DATA_DIR": str(tmp_path), "DATABASE_URL": "sqlite:////proc/audit.sqlite"}
    done = spokes_process(environ, "migrate")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "SQLITE_CANTOPEN" in done.stderr
