"""Read the pauses, and restore them if something else wrote their key with another type of value.

A process that has read the pauses before stores them again in the step that renames the other value. Otherwise a worker
could read that there are none.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core.redis.errors import RedisFault, classify
from spokes.core.redis.key_types import move_aside
from spokes.core.telemetry.alerts import Alert

Pauses = TypeVar("Pauses")


async def read_or_restore(
    redis: Redis, name: str, read: Callable[[], Awaitable[Pauses]], known: Mapping[str, bytes | str]
) -> Pauses:
    """Return what `read` returns; if the key `name` holds another type of value, store the `known` pauses before.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    try:
        return await read()
    except ResponseError as error:
        if classify(error) is not RedisFault.WRONG_TYPE:
            raise
    if await move_aside(redis, name, known):
        await AlertEpisodes(redis).report_once(Alert.REDIS_KEY_REPLACED, keys=[name])
    return await read()
