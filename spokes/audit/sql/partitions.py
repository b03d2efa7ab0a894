"""PostgreSQL's partitions of the records, one for each month of archiving. Rule: SQLite has none, and nothing to do.

A month is YYYYMM of the database's clock, in UTC. What was archived before there were partitions is month 0; what finds
no partition of its month goes into the default one.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from spokes.audit.sql.engine import write_connection

_MONTHS_AHEAD: Final = 3  # months
_NAME_PATTERN: Final = re.compile(r"audit_records_\d{6}")


def months(year: int, month: int, count: int) -> list[int]:
    """Return `count` months from the given one on, as YYYYMM."""
    places = range(year * 12 + month - 1, year * 12 + month - 1 + count)
    return [place // 12 * 100 + place % 12 + 1 for place in places]


async def create_missing(engine: AsyncEngine, today: datetime | None = None) -> list[int]:
    """Create the partitions of this month and of those to come; return which were missing.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    if engine.dialect.name != "postgresql":
        return []
    today = today or datetime.now(UTC)
    async with write_connection(engine) as connection:
        await connection.execute(text("SELECT seq FROM audit_head FOR UPDATE"))  # one process at a time
        there = await names(connection)
        wanted = [
            month for month in months(today.year, today.month, 1 + _MONTHS_AHEAD) if _partition_name(month) not in there
        ]
        return [month for month in wanted if await _create(connection, month)]


async def names(connection: AsyncConnection) -> list[str]:
    """Return the partitions by name, oldest first, the default one left out."""
    found = await connection.scalars(
        text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit_records'::regclass")
    )
    return sorted(name for name in found if _NAME_PATTERN.fullmatch(name))


class Partition(NamedTuple):
    """A partition: how many records it has, and the `seq` of the last; 0 when it has none."""

    name: str
    records: int
    last_seq: int


async def expired_before(connection: AsyncConnection, seq: int) -> list[Partition]:
    """Return the partitions whose month is over and that hold nothing from `seq` on, oldest first."""
    current = str(await connection.scalar(text("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYYMM')")))
    passed: list[Partition] = []
    for name in await names(connection):
        # The name is one of those that `names` lets through.
        found = await connection.execute(text(f"SELECT count(*), coalesce(max(seq), 0) FROM {name}"))  # noqa: S608
        part = Partition(name, *found.one())
        if name[-6:] >= current or part.last_seq >= seq:
            break
        passed.append(part)
    return passed


async def drop(connection: AsyncConnection, partitions: Sequence[Partition]) -> None:
    """Drop partitions, with all that is in them."""
    for part in partitions:
        await connection.execute(text(f"DROP TABLE {part.name}"))


async def _create(connection: AsyncConnection, month: int) -> bool:
    """Create one partition; False when the default one holds records of that month already, which then stay there."""
    sql = f"CREATE TABLE {_partition_name(month)} PARTITION OF audit_records FOR VALUES IN ({month})"
    try:
        async with connection.begin_nested():
            await connection.execute(text(sql))
    except SQLAlchemyError:
        return False
    return True


def _partition_name(month: int) -> str:
    return f"audit_records_{month:06d}"
