"""Whether the queue can take more. Rule: measured once a second beside the traffic, asked for free by every request.

Above a limit the receiver refuses early and cheaply, so that HubSpot's 24 hours of redelivery become the buffer:
imports first, which nobody waits for, then everything. It recovers by itself.
"""

import asyncio
import contextlib
from enum import IntEnum
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.audit.alert_episodes import Episodes
from spokes.core.delivery import AUDIT_STREAM, QUEUE_NAME
from spokes.core.errors import QueueUnavailable
from spokes.core.events import Event
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.core.telemetry.setup import alert

_LOOK_EVERY_S: Final = 1.0
_IMPORTS_FROM: Final = 0.8  # share of a limit from which imports are sent back
_RECOVERED_BELOW: Final = 0.95  # of the share that closed the door, so that it does not flutter
_RETRY_AFTER_S: Final = 30
log = structlog.get_logger()


class Level(IntEnum):
    """What is taken."""

    ALL = 0
    NO_IMPORTS = 1
    NOTHING = 2


def level(fullness: float, before: Level) -> Level:
    """Return what is to be taken when the fullest limit is used to the share `fullness`."""
    for candidate, share in ((Level.NOTHING, 1.0), (Level.NO_IMPORTS, _IMPORTS_FROM)):
        if fullness >= share * (_RECOVERED_BELOW if before >= candidate else 1.0):
            return candidate
    return Level.ALL


class Load:
    """The queue's fullness, as it was a second ago."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._limits = {"queue": settings.max_backlog, "records": settings.max_unarchived}
        self._memory_share = settings.max_memory_share
        self._episodes = Episodes(redis)
        self._looked = False
        self.level = Level.ALL

    def admit_request(self) -> None:
        """Refuse a request before anything of it is looked at.

        Raises:
            QueueUnavailable: nothing is taken now.
        """
        if self.level is Level.NOTHING:
            raise QueueUnavailable("queue_full", retry_after_s=_RETRY_AFTER_S)

    @property
    def takes_all(self) -> bool:
        """Whether nothing is sent back, whatever it is."""
        return self.level is Level.ALL

    def admit_events(self, events: list[Event]) -> None:
        """Refuse a request that holds events of an import, when those are sent back.

        Raises:
            QueueUnavailable: it does, and they are.
        """
        if self.level is Level.NO_IMPORTS and any(event.change_source == "IMPORT" for event in events):
            raise QueueUnavailable("queue_full_for_imports", retry_after_s=_RETRY_AFTER_S)

    async def run(self, stop: asyncio.Event) -> None:
        """Measure until `stop` is set."""
        while not stop.is_set():
            try:
                await self.look()
            except (RedisError, OSError):
                log.warning("load_unknown")  # admission itself finds out soon enough
            await pause(stop, _LOOK_EVERY_S)

    async def look(self) -> None:
        """Measure once, and tell when the door closes or opens."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.zcard(QUEUE_NAME)
            pipeline.xlen(AUDIT_STREAM)
            pipeline.info("memory")
            queue, records, memory = await pipeline.execute()
        shares = {"queue": queue / self._limits["queue"], "records": records / self._limits["records"]}
        if most := memory["maxmemory"]:
            shares["memory"] = memory["used_memory"] / (most * self._memory_share)
        fullest = max(shares, key=lambda name: shares[name])
        before, self.level = self.level, level(shares[fullest], self.level)
        if self.level != before or not self._looked:
            await self._tell(taken=self.level.name.lower(), limit=fullest, share=round(shares[fullest], 2))
        self._looked = True

    async def _tell(self, **fields: Any) -> None:
        stands = self.level is not Level.ALL
        try:
            await self._episodes.tell(Alert.QUEUE_FILLING, stands=stands, **fields)
        except (RedisError, OSError):  # so full that it takes not even this
            if stands:
                alert(Alert.QUEUE_FILLING, **fields)


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait `seconds`, or until `stop` is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
