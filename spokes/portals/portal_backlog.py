"""How many deliveries of each portal wait in the queues, and since when. Read in parts: none keeps Redis busy."""

from dataclasses import dataclass
from typing import Final, cast

from redis.asyncio import Redis

from spokes.core.redis.keys import QUEUES
from spokes.core.redis.scripts import read_script

_SCRIPT: Final = read_script(__file__, "portal_backlog.lua")
_JOBS_PER_CALL: Final = 5_000  # about a millisecond of Redis
_MAX_CALLS: Final = 200  # for each queue


@dataclass(slots=True)
class PortalBacklog:
    """The waiting deliveries of one portal, those that run included; `first_due` in epoch ms."""

    count: int = 0
    first_due: float = float("inf")


async def portal_backlogs(redis: Redis) -> dict[int, PortalBacklog]:
    """Return the backlog of each portal that has one; of at most a million deliveries in each queue.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    script = redis.register_script(_SCRIPT)
    backlogs: dict[int, PortalBacklog] = {}
    for queue in QUEUES.values():
        for first in range(0, _MAX_CALLS * _JOBS_PER_CALL, _JOBS_PER_CALL):
            read, *rest = await script(keys=[queue], args=[first, first + _JOBS_PER_CALL - 1])
            values = cast("list[bytes | int]", rest)
            for portal, count, due in zip(values[::3], values[1::3], values[2::3], strict=True):
                backlog = backlogs.setdefault(int(portal), PortalBacklog())
                backlog.count += int(count)
                backlog.first_due = min(backlog.first_due, float(due))
            if read < _JOBS_PER_CALL:
                break
    return backlogs
