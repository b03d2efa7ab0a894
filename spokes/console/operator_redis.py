"""The Redis client of a command, whose audit records are signed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from spokes.audit.entry_signature import sign_entries
from spokes.core.redis.connections import redis_client
from spokes.core.redis.deployment import refuse_other_deployment
from spokes.core.settings import Settings


@asynccontextmanager
async def operator_redis(settings: Settings) -> AsyncIterator[Redis]:
    """Yield a client for one command. The process signs stream entries from now on.

    Raises:
        ConfigurationError: the database belongs to another deployment, whose data the command would read or change.
        RedisError, OSError: Redis does not answer.
    """
    sign_entries(settings)
    async with redis_client(settings) as redis:
        await refuse_other_deployment(redis, settings)
        yield redis
