"""Wait out a Redis outage: one log line when it starts, one when it ends, and no process exits.

A process has one `RedisOutage`; each of its long-running tasks waits under a name of its own. The outage ends when the
last of these succeeds.
"""

import asyncio
import random
import time
from typing import Final

import structlog

from spokes.core.errors import ConfigurationError
from spokes.core.redis.errors import first_word, unusable_sentence

_FIRST_WAIT_S: Final = 0.25
_LONGEST_WAIT_S: Final = 2.0  # leases last 7 s
log = structlog.get_logger()


class RedisOutage:
    """The current Redis outage, if any, as one process sees it."""

    def __init__(self) -> None:
        self._failures: dict[str, int] = {}  # in a row, by task
        self._started_at: float | None = None
        self._unusable = ""

    async def wait(self, error: BaseException, task: str) -> None:
        """Wait before the next try of `task`, longer after each failure in a row; the first failure is logged."""
        if self._started_at is None:
            self._started_at = time.monotonic()
            log.warning("redis_outage_started", error=first_word(error), task=task)
        if not self._unusable and (sentence := unusable_sentence(error)):
            self._unusable = sentence
            log.error("redis_unusable", error=first_word(error), task=task, advice=sentence)
        failures = self._failures[task] = self._failures.get(task, 0) + 1
        await asyncio.sleep(wait_s(failures, random.uniform(0.5, 1.0)))

    def mark_available(self, task: str) -> None:
        """Record that a call of `task` succeeded; the last task to succeed ends the outage."""
        if not self._failures:
            return
        self._failures.pop(task, None)
        if not self._failures and self._started_at is not None:
            log.warning("redis_outage_ended", outage_s=round(time.monotonic() - self._started_at, 1))
            self._started_at, self._unusable = None, ""

    @property
    def is_unusable(self) -> bool:
        """Whether no waiting helps."""
        return bool(self._unusable)

    def raise_if_unusable(self) -> None:
        """Raise if no waiting helps: a process without work of its own beside Redis ends with the sentence.

        Raises:
            ConfigurationError: REDIS_URL or the server must be changed.
        """
        if self._unusable:
            raise ConfigurationError([self._unusable])


def wait_s(failures: int, jitter: float) -> float:
    """Return the seconds to wait after this many failures in a row; `jitter` is at most 1."""
    return min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(failures - 1, 10)) * jitter
