"""Tell Redis that this worker lives. Rule: leases last seconds, so that a dead worker's work soon runs elsewhere.

arq would leave a killed worker's jobs waiting for the whole job timeout.
"""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

EVERY_S: Final = 2.0
_SCRIPT: Final = (Path(__file__).parent / "renew.lua").read_text()
_GROUP: Final = 500
log = structlog.get_logger()


async def beat(redis: Redis, leases: Callable[[], Iterable[tuple[str, str]]], lease_ms: int) -> None:
    """Renew every lease that `leases` names, with what it says, every two seconds, until cancelled."""
    script = redis.register_script(_SCRIPT)
    while True:
        await asyncio.sleep(EVERY_S)
        due = list(leases())
        try:
            for start in range(0, len(due), _GROUP):
                words = [word for lease in due[start : start + _GROUP] for word in lease]
                await script(args=[lease_ms, *words])
        except (RedisError, OSError):
            log.warning("heartbeat_missed")
