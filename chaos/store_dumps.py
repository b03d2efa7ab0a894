"""Everything that Redis and the audit store hold, as text to search in."""

from base64 import b64decode
from collections.abc import Mapping
from typing import Final

from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.sql.engine import read_connection
from spokes.audit.sql.tables import METADATA
from spokes.core.delivery import decode
from spokes.core.errors import UnreadableDelivery

# The command that reads a value of each type, and what follows the key; a key that has just expired has no type.
_READS: Final[Mapping[bytes, tuple[str | int, ...]]] = {
    b"none": ("GET",),
    b"string": ("GET",),
    b"hash": ("HGETALL",),
    b"list": ("LRANGE", 0, -1),
    b"zset": ("ZRANGE", 0, -1),
    b"stream": ("XRANGE", "-", "+"),
    b"set": ("SMEMBERS",),
}


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
        command, *arguments = _READS[await redis.type(name)]
        reply = await redis.execute_command(command, name, *arguments)  # type: ignore[no-untyped-call]  # redis-py has no type for it
        values = reply if isinstance(reply, list) else [reply]
        parts += [repr(name), *(unpacked(value) if isinstance(value, bytes) else repr(value) for value in values)]
    return "\n".join(parts)


async def dump_sql(engine: AsyncEngine) -> str:
    """Return every row of our tables."""
    async with read_connection(engine) as connection:
        tables_content = [(await connection.execute(text(f"SELECT * FROM {name}"))).all() for name in METADATA.tables]  # noqa: S608 - ours
    return repr(tables_content)
