"""Recognise a Redis outage and wait it out: one log line when it starts, one when it ends, and no process exits."""

import asyncio
import random
import re
import time
from typing import Final

import structlog
from redis.exceptions import BusyLoadingError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

# Unreachable, slow, loading its file, or a read-only replica during a failover.
_OUTAGE_ERRORS: Final = (RedisConnectionError, RedisTimeoutError, BusyLoadingError, ReadOnlyError, OSError)
# Memory or disk is full. redis-py prefixes an error within a pipeline with text of its own.
_FULL_MESSAGE: Final = re.compile(r"^(?:Command # \d+ .* of pipeline caused error: )?(?:OOM|MISCONF) ", re.DOTALL)
_RETRY_S: Final = 0.25
log = structlog.get_logger()


def is_outage(error: BaseException) -> bool:
    """Return whether the same call will succeed once Redis is available again."""
    return isinstance(error, _OUTAGE_ERRORS) or (
        isinstance(error, ResponseError) and bool(_FULL_MESSAGE.search(str(error)))
    )


def is_redis_outage(error: BaseException) -> bool:
    """Return whether a handler's error is an outage of Redis, and not of a connection of its own."""
    return isinstance(error, RedisError) and is_outage(error)


class RedisOutage:
    """The current Redis outage, if any, as one process sees it."""

    def __init__(self) -> None:
        self._started_at: float | None = None

    async def wait(self, error: BaseException) -> None:
        """Wait a moment before the next try; the first call of an outage logs it."""
        if self._started_at is None:
            self._started_at = time.monotonic()
            log.warning("redis_outage_started", error=type(error).__name__)
        await asyncio.sleep(_RETRY_S * random.uniform(0.5, 1.5))

    def mark_available(self) -> None:
        """End the outage: Redis has answered."""
        if self._started_at is not None:
            log.warning("redis_outage_ended", outage_s=round(time.monotonic() - self._started_at, 1))
            self._started_at = None
