"""What this Redis would lose of what it is given. Rule: a sentence for each way, with what to set instead.

Under `appendfsync always` an answer comes after the disk has what it is about. Under `everysec` WAITAOF is to tell when
that is so, but Redis from 7.2.2 to 7.4.2, and every Valkey until now (9.1), take all that they have written for synced
while less than a second has passed since the last sync (github.com/redis/redis/pull/13793).
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

_WAITAOF_SINCE: Final = (7, 2)
_EVERYSEC_RELIABLE_SINCE: Final = (8, 0)


class DurabilityRisk(NamedTuple):
    """One way to lose events: a sentence, and whether it is one that nobody can have meant to allow."""

    message: str
    is_misconfiguration: bool


async def durability_risks(redis: Redis, *, durable: bool) -> list[DurabilityRisk]:
    """Return every way in which `redis` would lose events in silence; `durable`: 202 is to wait for its disk.

    Raises:
        RedisError, OSError: it does not answer.
    """
    info = await redis.info()
    found = []
    if info.get("maxmemory") and info.get("maxmemory_policy") != "noeviction":
        found.append(
            DurabilityRisk(
                "Redis evicts keys when it is full, and with them events: set maxmemory-policy noeviction.",
                is_misconfiguration=True,
            )
        )
    if not info.get("aof_enabled") and not await _config_value(redis, "save", unknown="hosted"):
        found.append(
            DurabilityRisk(
                "Redis keeps nothing on disk, so a restart of it loses the queue: set appendonly yes.",
                is_misconfiguration=False,
            )
        )
    if durable and (sentence := waitaof_problem(info, await appendfsync(redis))):
        found.append(DurabilityRisk(sentence, is_misconfiguration=True))
    return found


def waitaof_problem(info: Mapping[str, Any], policy: str) -> str | None:
    """Return why DURABLE_ACK=aof does not hold on a server, by its INFO and its appendfsync; None when it does."""
    if not info.get("aof_enabled"):
        return "DURABLE_ACK=aof waits for an append-only file, and Redis has none: set appendonly yes."
    version = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2])
    if version < _WAITAOF_SINCE:
        return f"DURABLE_ACK=aof needs Redis 7.2 or Valkey, and this is Redis {info['redis_version']}."
    if policy == "always" or (version >= _EVERYSEC_RELIABLE_SINCE and "valkey_version" not in info):
        return None
    return f"DURABLE_ACK=aof needs appendfsync always: with {policy} this Redis does not say when its disk has it."


async def appendfsync(redis: Redis) -> str:
    """Return when the server's append-only file is synced: always, everysec or no."""
    return await _config_value(redis, "appendfsync", unknown="always")


async def _config_value(redis: Redis, name: str, *, unknown: str) -> str:
    """A setting of the server; hosted ones do not tell, and take care of it themselves."""
    try:
        return str((await redis.config_get(name)).get(name, ""))
    except RedisError:
        return unknown
