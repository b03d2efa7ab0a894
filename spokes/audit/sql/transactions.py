"""Write transactions that are plain functions: with SQLite, each is one call of a thread.

aiosqlite gives each step of a statement to its thread and awaits it, some forty times for one batch of the archiver. A
worker's event loop gets to each of them only after the tasks that are ready before it, so a batch of a few records took
as long as forty turns of a busy loop. PostgreSQL answers over the network, and its driver needs the loop.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.sql.engine import BEGIN_SQLITE, open_sqlite_engine, store_errors, write_connection

T = TypeVar("T")
_THREAD: Final = "audit-store"


class WriteTransactions:
    """Runs functions in transactions of one store, one after the other."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._path = engine.url.database if engine.dialect.name == "sqlite" else None
        self._sqlite: Engine | None = None
        self._thread: ThreadPoolExecutor | None = None

    async def run(self, write: Callable[[Connection], T]) -> T:
        """Call `write` in a transaction that is committed at its end; with SQLite it is the only writer.

        Raises:
            AuditUnavailable: the store does not answer, or did not confirm the commit, which may still have happened.
        """
        if self._path:
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, thread_name_prefix=_THREAD)
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._run_in_thread, write)
        async with write_connection(self._engine) as connection:
            return await connection.run_sync(write)

    async def close(self) -> None:
        """Close the connection and the thread, if there are any; the next transaction opens others."""
        if self._thread is None:
            return
        thread, self._thread = self._thread, None
        closed = asyncio.get_running_loop().run_in_executor(thread, self._dispose)
        thread.shutdown(wait=False)
        await closed

    def _run_in_thread(self, write: Callable[[Connection], T]) -> T:
        with store_errors():
            if self._sqlite is None:
                self._sqlite = open_sqlite_engine(self._path or "")
            with self._sqlite.begin() as connection:
                connection.exec_driver_sql(BEGIN_SQLITE)
                return write(connection)

    def _dispose(self) -> None:
        if self._sqlite is not None:
            self._sqlite.dispose()
            self._sqlite = None
