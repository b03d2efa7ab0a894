"""Tell Redis that this worker lives. Rule: leases last seconds, so that a dead worker's work soon runs elsewhere.

arq would leave a killed worker's jobs waiting for the whole job timeout.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

RENEW_EVERY_S: Final = 2.0
_SCRIPT: Final = (Path(__file__).parent / "renew_leases.lua").read_text()
_MAX_LEASES_PER_CALL: Final = 500
log = structlog.get_logger()


class Lease(NamedTuple):
    """A key, what it must say, and whether it may be taken again once it has lapsed.

    A job's may: whoever ran it meanwhile has ended it, or has its lease. An object's lane may not: another may have
    worked on the object and gone, and what we knew of it when we took the lane is no longer the newest.
    """

    key: str
    value: str
    may_reacquire: bool = False


async def renew_leases(
    redis: Redis, leases: Callable[[], Iterable[Lease]], lease_ms: int, on_renewed: Callable[[Lease, float], None]
) -> None:
    """Renew every lease that `leases` names, every two seconds, until cancelled.

    `renewed` is told of each that is ours, and until when, in seconds of the monotonic clock.
    """
    script = redis.register_script(_SCRIPT)
    while True:
        await asyncio.sleep(RENEW_EVERY_S)
        due = list(leases())
        try:
            for start in range(0, len(due), _MAX_LEASES_PER_CALL):
                group, until = due[start : start + _MAX_LEASES_PER_CALL], time.monotonic() + lease_ms / 1000
                words = [word for key, says, again in group for word in (key, says, int(again))]
                ours = await script(args=[lease_ms, *words])
                for lease, is_ours in zip(group, ours, strict=True):
                    if is_ours:
                        on_renewed(lease, until)
        except (RedisError, OSError):
            log.warning("heartbeat_missed")
