"""Wait for Redis while it is away. Rule: one line when it goes, one when it is back, and nobody ends for it."""

import asyncio
import random
import re
import time
from typing import Final

import structlog
from redis.exceptions import BusyLoadingError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

# What Redis being away looks like: gone, slow, reading its file, without memory for more, or a replica for a while.
_OUTAGE_ERRORS: Final = (RedisConnectionError, RedisTimeoutError, BusyLoadingError, ReadOnlyError, OSError)
# Its memory or its disk is full; redis-py puts words of its own before what a pipeline was answered.
_FULL_MESSAGE: Final = re.compile(r"^(?:Command # \d+ .* of pipeline caused error: )?(?:OOM|MISCONF) ", re.DOTALL)
_RETRY_S: Final = 0.25
log = structlog.get_logger()


def is_outage(error: BaseException) -> bool:
    """Return whether the same call will work once Redis is itself again."""
    return isinstance(error, _OUTAGE_ERRORS) or (
        isinstance(error, ResponseError) and bool(_FULL_MESSAGE.search(str(error)))
    )


def is_redis_outage(error: BaseException) -> bool:
    """Return whether a handler's error is Redis', not one of its own connections."""
    return isinstance(error, RedisError) and is_outage(error)


class RedisOutage:
    """What one process knows of Redis being away."""

    def __init__(self) -> None:
        self._started_at: float | None = None

    async def wait(self, error: BaseException) -> None:
        """Sit out a moment; the first to notice says so."""
        if self._started_at is None:
            self._started_at = time.monotonic()
            log.warning("redis_away", error=type(error).__name__)
        await asyncio.sleep(_RETRY_S * random.uniform(0.5, 1.5))

    def mark_available(self) -> None:
        """Take note that Redis has answered."""
        if self._started_at is not None:
            log.warning("redis_back", away_s=round(time.monotonic() - self._started_at, 1))
            self._started_at = None
