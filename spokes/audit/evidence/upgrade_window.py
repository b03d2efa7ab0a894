"""The day in which unsigned stream entries are archived: an upgrade, while processes of an earlier version run too.

A migration opens this day if an earlier version created the store. For a new store, arq's default queue
shows that a process of an earlier version, which does not sign, runs beside this one. A program that can write to Redis
can pretend that, but only before the first record: there is no history to forge yet.
"""

from typing import Final

from redis.asyncio import Redis
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.sql.engine import write_connection
from spokes.audit.sql.queries import unsigned_until
from spokes.audit.sql.tables import RECORDS, STREAM
from spokes.core.clock import now_ms
from spokes.core.redis.keys import DEFAULT_QUEUE, DEFAULT_WORKER_HEALTH

UPGRADE_MS: Final = 24 * 3_600_000  # as in revision 0003


async def load_unsigned_until(redis: Redis, engine: AsyncEngine) -> int:
    """Return the epoch ms until which unsigned entries are archived; open the day if an upgrade begins now.

    Raises:
        AuditUnavailable: the store does not answer.
        RedisError, OSError: Redis does not answer.
    """
    until = await unsigned_until(engine)
    if until or not await redis.exists(DEFAULT_QUEUE, DEFAULT_WORKER_HEALTH):
        return until
    async with write_connection(engine) as connection:
        if await connection.scalar(select(func.count()).select_from(select(RECORDS.c.seq).limit(1).subquery())):
            return until
        until = now_ms() + UPGRADE_MS
        await connection.execute(update(STREAM).values(unsigned_until=until))
    return until
