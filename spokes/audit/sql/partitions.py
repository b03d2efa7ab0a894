"""PostgreSQL's partitions of the audit records, one for each month of archiving; SQLite has none.

A month is YYYYMM by the database's clock, in UTC. Records archived before partitions existed have month 0. Records for
whose month there is no partition go into the default one.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from spokes.audit.sql.engine import write_connection

_MONTHS_AHEAD: Final = 3
_NAME_PATTERN: Final = re.compile(r"audit_records_\d{6}")


def months(year: int, month: int, count: int) -> list[int]:
    """Return `count` months from the given one on, as YYYYMM."""
    first = year * 12 + month - 1
    return [number // 12 * 100 + number % 12 + 1 for number in range(first, first + count)]


async def create_missing(engine: AsyncEngine, today: datetime | None = None) -> list[int]:
    """Create the partitions of this month and the next three, unless they exist; return the months created.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    if engine.dialect.name != "postgresql":
        return []
    today = today or datetime.now(UTC)
    async with write_connection(engine) as connection:
        await connection.execute(text("SELECT seq FROM audit_head FOR UPDATE"))  # one process at a time
        existing = await names(connection)
        missing = [
            month
            for month in months(today.year, today.month, 1 + _MONTHS_AHEAD)
            if _partition_name(month) not in existing
        ]
        return [month for month in missing if await _create(connection, month)]


async def names(connection: AsyncConnection) -> list[str]:
    """Return the names of the partitions, oldest first, without the default one."""
    children = await connection.scalars(
        text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit_records'::regclass")
    )
    return sorted(name for name in children if _NAME_PATTERN.fullmatch(name))


class Partition(NamedTuple):
    """A partition: how many records it has, and the `seq` of the last one, 0 if it is empty."""

    name: str
    records: int
    last_seq: int


async def expired_before(connection: AsyncConnection, seq: int) -> list[Partition]:
    """Return the partitions of past months all of whose records come before `seq`, oldest first."""
    current = str(await connection.scalar(text("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYYMM')")))
    expired: list[Partition] = []
    for name in await names(connection):
        counted = await connection.execute(text(f"SELECT count(*), coalesce(max(seq), 0) FROM {name}"))  # noqa: S608 - matches _NAME_PATTERN
        partition = Partition(name, *counted.one())
        if name[-6:] >= current or partition.last_seq >= seq:
            break
        expired.append(partition)
    return expired


async def drop(connection: AsyncConnection, partitions: Sequence[Partition]) -> None:
    """Drop partitions and their records."""
    for partition in partitions:
        await connection.execute(text(f"DROP TABLE {partition.name}"))


async def _create(connection: AsyncConnection, month: int) -> bool:
    """Create a partition; return False if the default one already has records of that month, which then stay there."""
    sql = f"CREATE TABLE {_partition_name(month)} PARTITION OF audit_records FOR VALUES IN ({month})"
    try:
        async with connection.begin_nested():
            await connection.execute(text(sql))
    except SQLAlchemyError:
        return False
    return True


def _partition_name(month: int) -> str:
    return f"audit_records_{month:06d}"
