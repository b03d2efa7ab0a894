"""Installs and uninstalls that HubSpot's journal reports, on their way to the store of portals.

The process that reads the journal does not open the SQL store: it notes them in a Redis list, and a worker applies them
in order (workers.upkeep.portal_lifecycles). One that is noted twice changes nothing the second time.
"""

from collections.abc import Iterable
from typing import NamedTuple

import orjson
from redis.asyncio import Redis

from spokes.core.redis.keys import LIFECYCLES
from spokes.core.redis.waiting_list import WaitingList


class Lifecycle(NamedTuple):
    """The app was installed in a portal, or uninstalled; `occurred_at` in epoch ms."""

    portal_id: int
    is_install: bool
    occurred_at: int


def noted_lifecycles(redis: Redis) -> WaitingList:
    """Return the list of those that wait."""
    return WaitingList(redis, LIFECYCLES)


async def note_lifecycles(redis: Redis, lifecycles: Iterable[Lifecycle]) -> None:
    """Note installs and uninstalls, in their order.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    await noted_lifecycles(redis).add(orjson.dumps([*lifecycle]) for lifecycle in lifecycles)


def read_lifecycle(payload: bytes) -> Lifecycle | None:
    """Return what a payload says, None if it is unreadable."""
    try:
        portal_id, is_install, occurred_at = orjson.loads(payload)
        return Lifecycle(int(portal_id), bool(is_install), int(occurred_at))
    except (TypeError, ValueError):
        return None
