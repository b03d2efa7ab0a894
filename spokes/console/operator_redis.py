"""The Redis client of a command, whose audit records are signed."""

from redis.asyncio import Redis

from spokes.audit.entry_signature import sign_entries
from spokes.core.redis.connections import redis_client
from spokes.core.settings import Settings


def operator_redis(settings: Settings) -> Redis:
    """Build a client for one command; `await client.aclose()` closes it.

    The process signs stream entries from now on.
    """
    sign_entries(settings)
    return redis_client(settings)
