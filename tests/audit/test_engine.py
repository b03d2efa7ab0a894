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
from spokes.core.errors import AuditUnavailable
from spokes.core.settings import Settings


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("postgres://u:p@h:5432/d", "postgresql://u:p@h:5432/d"),
        ("postgres://u:p@h/d?sslmode=require", "postgresql://u:p@h/d?sslmode=require"),
        ("postgres://u:p@h/d?sslmode=no-verify", "postgresql://u:p@h/d?sslmode=require"),
        ("postgresql://u:p@h/d?sslmode=require&channel_binding=require", "postgresql://u:p@h/d?sslmode=require"),
        ("postgresql://u:p%40%2F@h/d", "postgresql://u:p%40%2F@h/d"),
        ("postgresql://u:@/d?host=/tmp/a%20b", "postgresql://u:@/d?host=/tmp/a%20b"),
        ("postgresql://u@h/d?application_name=a%26b", "postgresql://u@h/d?application_name=a%26b"),
    ],
)
def test_address_written_for_any_client_is_translated(given: str, read: str) -> None:
    address = Settings.from_env({"DATABASE_URL": given}).database_address
    assert read == asyncpg_address(address)


async def test_store_that_does_not_answer_is_told_without_its_password() -> None:
    engine = open_engine("postgresql+asyncpg://u:geheim@127.0.0.1:1/d?sslmode=prefer")
    with pytest.raises(AuditUnavailable, match="does not answer") as told:
        async with read_connection(engine):
            pass
    assert "geheim" not in str(told.value)
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


async def _copy_on_a_connection_that_is_lost(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TEMP TABLE copied (a text)")

    def lost_under_way() -> Iterator[tuple[str]]:
        connection.terminate()
        yield ("a" * 1_000_000,)

    with pytest.raises(AttributeError):  # asyncpg's own, of the transport that is gone
        await connection.copy_records_to_table("copied", records=lost_under_way())


async def test_of_a_copy_that_cannot_be_sent_one_error_is_told_and_no_other(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    asyncio.get_running_loop().set_exception_handler(ignore_orphaned_copy_errors)
    await _copy_on_a_connection_that_is_lost(postgres_url)
    await asyncio.sleep(0)  # what is done with the connection is done in the loop's next turn
    gc.collect()
    assert not caplog.records


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_connection_that_is_lost_in_a_copy_is_a_store_that_does_not_answer(engine: AsyncEngine) -> None:
    asyncio.get_running_loop().set_exception_handler(ignore_orphaned_copy_errors)
    await schema.upgrade(engine)

    async def insert_while_it_is_lost() -> None:
        async with write_connection(engine) as connection:
            raw = (await connection.get_raw_connection()).driver_connection

            class Losing:
                def __index__(self) -> int:
                    raw.terminate()
                    return 1

            await _insert(connection, [{**dict.fromkeys(_COLUMNS), "seq": Losing()}])  # type: ignore[dict-item]  # no number on purpose

    with pytest.raises(AuditUnavailable, match="ConnectionResetError"):
        await insert_while_it_is_lost()


async def _fails_alone(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("error", [KeyError(), asyncpg.ConnectionDoesNotExistError()])
async def test_exception_of_a_task_that_nobody_waited_for_is_told(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    asyncio.get_running_loop().set_exception_handler(ignore_orphaned_copy_errors)
    task = asyncio.create_task(_fails_alone(error))
    await asyncio.wait({task})
    del task
    gc.collect()
    assert "never retrieved" in caplog.text


async def test_exception_of_a_future_that_nobody_fetched_is_told(caplog: pytest.LogCaptureFixture) -> None:
    asyncio.get_running_loop().set_exception_handler(ignore_orphaned_copy_errors)
    asyncio.get_running_loop().create_future().set_exception(KeyError())
    gc.collect()
    assert "never retrieved" in caplog.text


def test_records_and_stream_load_without_sqlalchemy() -> None:
    """The web process appends records and stays small."""
    check = "import sys, spokes.audit.records, spokes.audit.stream; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


class _Locked(sqlite3.Cursor):
    """A cursor as SQLite's is while another process switches a new file over to its log: that is over in a moment."""

    left = 3

    def execute(self, sql: str, parameters: object = ()) -> "_Locked":
        if "journal_mode" in sql and self.left:
            self.left -= 1
            raise sqlite3.OperationalError("database is locked")
        super().execute(sql, parameters)  # type: ignore[arg-type]  # there are none
        return self


class _Connection(sqlite3.Connection):
    def cursor(self) -> _Locked:  # type: ignore[override]  # always this one
        return _Locked(self)


def test_file_that_another_switches_over_is_waited_for(tmp_path: Path) -> None:
    """It comes of two processes that start at once, about once in 300 times, and never when it is asked to."""
    connection = sqlite3.connect(tmp_path / "new.sqlite", factory=_Connection)
    _set_up_sqlite(connection, None)
    [mode] = sqlite3.Cursor(connection).execute("PRAGMA journal_mode").fetchone()
    connection.close()
    assert mode == "wal"
