"""Everything that Redis and the audit store hold, as text to search in."""

from base64 import b64decode

from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.sql.engine import read_connection
from spokes.audit.sql.tables import METADATA
from spokes.core.delivery import decode
from spokes.core.errors import UnreadableDelivery


def unpacked(value: bytes) -> str:
    """Return a value in searchable form: our payloads and the unreadable jobs in them, unpacked."""
    try:
        content = decode(value)
    except UnreadableDelivery:
        return repr(value)
    return repr(content) + repr(b64decode(content.get("payload", "")))


async def dump_redis(redis: Redis) -> str:
    """Return everything that Redis holds, unpacked."""
    parts: list[str] = []
    async for name in redis.scan_iter(count=1000):
        kind = await redis.type(name)
        parts.append(repr(name))
        if kind == b"string":
            value = await redis.get(name)
            parts.append(unpacked(value))
        elif kind == b"hash":
            parts.append(repr(await redis.hgetall(name)))
        elif kind == b"list":
            parts += [unpacked(entry) for entry in await redis.lrange(name, 0, -1)]
        elif kind == b"zset":
            parts.append(repr(await redis.zrange(name, 0, -1)))
        elif kind == b"stream":
            parts.append(repr(await redis.xrange(name)))
        elif kind == b"set":
            parts.append(repr(await redis.smembers(name)))
    return "\n".join(parts)


async def dump_sql(engine: AsyncEngine) -> str:
    async with read_connection(engine) as connection:
        tables_content = [(await connection.execute(text(f"SELECT * FROM {name}"))).all() for name in METADATA.tables]  # noqa: S608 - ours
    return repr(tables_content)
