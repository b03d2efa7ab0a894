"""Tell Redis that this worker lives. Rule: leases last seconds, so that a dead worker's work soon runs elsewhere.

arq would leave a killed worker's jobs waiting for the whole job timeout.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

EVERY_S: Final = 2.0
log = structlog.get_logger()


async def beat(redis: Redis, leases: Callable[[], Iterable[str]], lease_ms: int) -> None:
    """Renew every lease that `leases` names, every two seconds, until cancelled."""
    while True:
        await asyncio.sleep(EVERY_S)
        try:
            async with redis.pipeline(transaction=False) as pipeline:
                for lease in leases():
                    pipeline.pexpire(lease, lease_ms)
                await pipeline.execute()
        except (RedisError, OSError):
            log.warning("heartbeat_missed")
