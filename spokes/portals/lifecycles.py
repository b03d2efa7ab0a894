"""Installs and uninstalls that HubSpot's journal reports, on their way to the store of portals.

The process that reads the journal does not open the SQL store: it notes them in a Redis list, and a worker applies them
in order (workers.upkeep.portal_lifecycles). One that is noted twice changes nothing the second time.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple, cast

import orjson
from redis.asyncio import Redis

from spokes.core.redis.keys import LIFECYCLES

_MAX_READ: Final = 500


class Lifecycle(NamedTuple):
    """The app was installed in a portal, or uninstalled; `occurred_at` in epoch ms."""

    portal_id: int
    is_install: bool
    occurred_at: int


async def note_lifecycles(redis: Redis, lifecycles: Iterable[Lifecycle]) -> None:
    """Note installs and uninstalls, in their order.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    if payloads := [orjson.dumps([*lifecycle]) for lifecycle in lifecycles]:
        await redis.rpush(LIFECYCLES, *payloads)  # type: ignore[misc]  # redis-py types one class for sync and async


async def waiting_lifecycles(redis: Redis) -> list[bytes]:
    """Return the oldest ones that wait, unread.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    return cast("list[bytes]", await redis.lrange(LIFECYCLES, 0, _MAX_READ - 1))  # type: ignore[misc]  # as above


async def remove_lifecycles(redis: Redis, count: int) -> None:
    """Remove the oldest ones, which are applied.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    await redis.ltrim(LIFECYCLES, count, -1)  # type: ignore[misc]  # as above


def read_lifecycle(payload: bytes) -> Lifecycle | None:
    """Return what a payload says, None if it is unreadable."""
    try:
        portal_id, is_install, occurred_at = orjson.loads(payload)
        return Lifecycle(int(portal_id), bool(is_install), int(occurred_at))
    except (TypeError, ValueError):
        return None
