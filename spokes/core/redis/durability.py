"""How this Redis server could lose queued events, and which server setting prevents it.

Under `appendfsync always` Redis answers after the write is on disk. Under `everysec` WAITAOF should wait for the disk,
but Redis from 7.2.2 to 7.4.2, and every Valkey so far (9.1), report all written data as synced if less than a second
has passed since the last sync (github.com/redis/redis/pull/13793).
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.core.redis.errors import RedisFault, classify

_WAITAOF_SINCE: Final = (7, 2)
_EVERYSEC_RELIABLE_SINCE: Final = (8, 0)


class DurabilityRisk(NamedTuple):
    """One way to lose events: a message for operators, and whether it can only be a mistake, which fails `/readyz`."""

    message: str
    is_misconfiguration: bool


async def durability_risks(redis: Redis, *, durable: bool) -> list[DurabilityRisk]:
    """Return every way in which `redis` could silently lose events; `durable`: DURABLE_ACK is `aof`.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    if (info := await server_info(redis)) is None:
        return []
    risks = []
    if info.get("maxmemory") and info.get("maxmemory_policy") != "noeviction":
        risks.append(
            DurabilityRisk(
                "Redis evicts keys when it is full, so queued events can be lost: set maxmemory-policy noeviction.",
                is_misconfiguration=True,
            )
        )
    if not info.get("aof_enabled") and not await _config_value(redis, "save", unknown="hosted"):
        risks.append(
            DurabilityRisk(
                "Redis keeps nothing on disk, so a restart of Redis loses the queue: set appendonly yes.",
                is_misconfiguration=False,
            )
        )
    if durable and (message := waitaof_problem(info, await appendfsync(redis))):
        risks.append(DurabilityRisk(message, is_misconfiguration=True))
    return risks


async def server_info(redis: Redis) -> Mapping[str, Any] | None:
    """Return the response to INFO; None if the Redis user may not call it, without which everything else works.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    try:
        return dict(await redis.info())
    except RedisError as error:
        if classify(error) is RedisFault.UNUSABLE:
            return None
        raise


def waitaof_problem(info: Mapping[str, Any], policy: str) -> str | None:
    """Return why DURABLE_ACK=aof has no effect, given a server's INFO and its appendfsync setting; None if it works."""
    if not info.get("aof_enabled"):
        return "DURABLE_ACK=aof needs an append-only file, and Redis has none: set appendonly yes."
    version = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2])
    if version < _WAITAOF_SINCE:
        return f"DURABLE_ACK=aof needs Redis 7.2 or Valkey, and this is Redis {info['redis_version']}."
    if policy == "always" or (version >= _EVERYSEC_RELIABLE_SINCE and "valkey_version" not in info):
        return None
    return (
        f"DURABLE_ACK=aof needs appendfsync always: with {policy} this Redis confirms writes that are not on disk yet."
    )


async def appendfsync(redis: Redis) -> str:
    """Return the server's appendfsync setting: always, everysec or no."""
    return await _config_value(redis, "appendfsync", unknown="always")


async def _config_value(redis: Redis, name: str, *, unknown: str) -> str:
    """Return a server setting, or `unknown`: hosted servers refuse CONFIG GET and manage durability themselves."""
    try:
        return str((await redis.config_get(name)).get(name, ""))
    except RedisError:
        return unknown
