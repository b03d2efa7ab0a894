"""After an erasure, rewrite the files of Redis and of the audit store; name what may remain, and until when."""

import asyncio
import time
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

_WAIT_S: Final = 60.0
_POLL_S: Final = 0.1
_TABLES: Final = ("audit_records", "privacy_requests", "incidents", "incident_notes")
BACKUPS: Final = (
    "Backups and replicas of Redis and of the audit store that were made before the erasure hold the data until they "
    "are deleted, and so do files that `privacy export` wrote."
)


async def rewrite_files(redis: Redis, engine: AsyncEngine) -> list[str]:
    """Rewrite the files; return a sentence for each place where erased data may remain. Never fails."""
    return [*await _rewrite_redis_files(redis), *await _rewrite_store_files(engine), BACKUPS]


async def _rewrite_redis_files(redis: Redis) -> list[str]:
    try:
        persistence = await redis.info("persistence")
    except (RedisError, OSError):
        return ["Whether Redis writes files is unknown, since it refuses INFO: they hold the data until rewritten."]
    remains = []
    if persistence.get("aof_enabled") and not await _rewrite(redis, "BGREWRITEAOF", "aof_rewrite_in_progress"):
        remains.append(
            "Redis' append-only file holds the data until Redis rewrites it: run BGREWRITEAOF, or wait until it has "
            "doubled in size and is above 64 MB (auto-aof-rewrite-percentage, auto-aof-rewrite-min-size)."
        )
    has_snapshot = persistence.get("rdb_saves") or persistence.get("rdb_last_load_keys_loaded")
    if has_snapshot and not await _rewrite(redis, "BGSAVE", "rdb_bgsave_in_progress"):
        remains.append("Redis' snapshot holds the data until the next one: run BGSAVE.")
    return remains


async def _rewrite(redis: Redis, command: str, in_progress: str) -> bool:
    """Run a command that rewrites a file in the background, and wait until it has ended; return whether it did."""
    deadline = time.monotonic() + _WAIT_S
    is_started = False
    try:
        while time.monotonic() < deadline:
            state = await redis.info("persistence")
            is_running = state[in_progress] or state.get("aof_rewrite_scheduled")
            if is_started and not is_running:
                outcome = "aof_last_bgrewrite_status" if command == "BGREWRITEAOF" else "rdb_last_bgsave_status"
                return bool(state[outcome] == "ok")
            if not is_started and not is_running:  # a rewrite that was running before may have read the old data
                await redis.execute_command(command)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
                is_started = True
            await asyncio.sleep(_POLL_S)
    except (RedisError, OSError, KeyError):
        pass
    return False


async def _rewrite_store_files(engine: AsyncEngine) -> list[str]:
    """Rewrite SQLite's file and empty its write-ahead log; vacuum PostgreSQL's tables."""
    is_sqlite = engine.dialect.name == "sqlite"
    try:
        async with engine.connect() as connection:
            autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
            if is_sqlite:
                await autocommit.execute(text("VACUUM"))
                is_busy, _, _ = (await autocommit.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))).one()
                return [_SQLITE_REMAINS] if is_busy else []
            for table in _TABLES:
                await autocommit.execute(text(f"VACUUM {table}"))
    except (SQLAlchemyError, OSError):
        return [_SQLITE_REMAINS if is_sqlite else f"{_VACUUM_REMAINS} {_WAL_REMAINS}"]
    return [_WAL_REMAINS]


_SQLITE_REMAINS: Final = (
    "SQLite's write-ahead log (the file ending in -wal) may hold ids until all processes have closed the file once."
)
_VACUUM_REMAINS: Final = "PostgreSQL's tables hold removed ids until they are vacuumed."
_WAL_REMAINS: Final = (
    "PostgreSQL's write-ahead log holds removed ids until the server recycles it, usually within hours; archived "
    "write-ahead logs, as hosts keep them for days, until they are deleted."
)
