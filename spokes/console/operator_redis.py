"""The Redis client of a command, whose audit records are signed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from spokes.audit.entry_signature import sign_entries
from spokes.console.tolerant_redis import NamingRedis, TolerantRedis
from spokes.core.redis.connections import redis_pool
from spokes.core.redis.deployment import refuse_other_deployment
from spokes.core.settings import Settings


@asynccontextmanager
async def operator_redis(
    settings: Settings, *, is_tolerant: bool = True, max_connections: int = 2
) -> AsyncIterator[Redis]:
    """Yield a client for one command. The process signs stream entries from now on.

    Args:
        settings: of the deployment.
        is_tolerant: whether a key that holds another type of value reads as empty. An erasure must not be: data that it
            does not find stays.
        max_connections: of the client.

    Raises:
        ConfigurationError: the database belongs to another deployment, whose data the command would read or change.
        RedisError, OSError: Redis does not answer.
    """
    sign_entries(settings)
    pool = redis_pool(settings, max_connections=max_connections)
    client = TolerantRedis.from_pool(pool) if is_tolerant else NamingRedis.from_pool(pool)
    async with client as redis:
        await refuse_other_deployment(redis, settings)
        yield redis
