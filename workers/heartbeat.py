"""Tell Redis that this worker lives. Rule: leases last seconds, so that a dead worker's work soon runs elsewhere.

arq would leave a killed worker's jobs waiting for the whole job timeout.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeAlias

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

Lease: TypeAlias = tuple[str, str]  # a key, and what it must say
EVERY_S: Final = 2.0
_SCRIPT: Final = (Path(__file__).parent / "renew.lua").read_text()
_GROUP: Final = 500
log = structlog.get_logger()


async def beat(
    redis: Redis, leases: Callable[[], Iterable[Lease]], lease_ms: int, renewed: Callable[[Lease, float], None]
) -> None:
    """Renew every lease that `leases` names, every two seconds, until cancelled.

    `renewed` is told of each that is ours, and until when, in seconds of the monotonic clock.
    """
    script = redis.register_script(_SCRIPT)
    while True:
        await asyncio.sleep(EVERY_S)
        due = list(leases())
        try:
            for start in range(0, len(due), _GROUP):
                group, until = due[start : start + _GROUP], time.monotonic() + lease_ms / 1000
                ours = await script(args=[lease_ms, *(word for lease in group for word in lease)])
                for lease, is_ours in zip(group, ours, strict=True):
                    if is_ours:
                        renewed(lease, until)
        except (RedisError, OSError):
            log.warning("heartbeat_missed")
