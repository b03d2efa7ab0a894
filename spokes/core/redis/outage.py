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
_AWAY: Final = (RedisConnectionError, RedisTimeoutError, BusyLoadingError, ReadOnlyError, OSError)
# Its memory or its disk is full; redis-py puts words of its own before what a pipeline was answered.
_FULL: Final = re.compile(r"^(?:Command # \d+ .* of pipeline caused error: )?(?:OOM|MISCONF) ", re.DOTALL)
_NAP_S: Final = 0.25
log = structlog.get_logger()


def is_away(error: BaseException) -> bool:
    """Return whether the same call will work once Redis is itself again."""
    return isinstance(error, _AWAY) or (isinstance(error, ResponseError) and bool(_FULL.search(str(error))))


def is_redis_away(error: BaseException) -> bool:
    """Return whether a handler's error is Redis', not one of its own connections."""
    return isinstance(error, RedisError) and is_away(error)


class Patience:
    """What one process knows of Redis being away."""

    def __init__(self) -> None:
        self._since: float | None = None

    async def wait(self, error: BaseException) -> None:
        """Sit out a moment; the first to notice says so."""
        if self._since is None:
            self._since = time.monotonic()
            log.warning("redis_away", error=type(error).__name__)
        await asyncio.sleep(_NAP_S * random.uniform(0.5, 1.5))

    def answered(self) -> None:
        """Take note that Redis has answered."""
        if self._since is not None:
            log.warning("redis_back", away_s=round(time.monotonic() - self._since, 1))
            self._since = None
