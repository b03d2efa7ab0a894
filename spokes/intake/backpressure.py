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

from spokes.audit.alert_episodes import AlertEpisodes
from spokes.core.delivery import AUDIT_STREAM, JOB_QUEUE
from spokes.core.errors import QueueUnavailable
from spokes.core.events import Event
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.core.telemetry.setup import log_alert

_MEASURE_EVERY_S: Final = 1.0
_REFUSE_IMPORTS_FROM: Final = 0.8  # share of a limit from which imports are sent back
_RECOVER_BELOW: Final = 0.95  # of the share that closed the door, so that it does not flutter
_RETRY_AFTER_S: Final = 30
log = structlog.get_logger()


class PressureLevel(IntEnum):
    """What is taken."""

    ALL = 0
    NO_IMPORTS = 1
    NOTHING = 2


def pressure_level(fullness: float, previous: PressureLevel) -> PressureLevel:
    """Return what is to be taken when the fullest limit is used to the share `fullness`."""
    for candidate, share in ((PressureLevel.NOTHING, 1.0), (PressureLevel.NO_IMPORTS, _REFUSE_IMPORTS_FROM)):
        if fullness >= share * (_RECOVER_BELOW if previous >= candidate else 1.0):
            return candidate
    return PressureLevel.ALL


class Backpressure:
    """The queue's fullness, as it was a second ago."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._limits = {"queue": settings.max_backlog, "records": settings.max_unarchived}
        self._memory_share = settings.max_memory_share
        self._episodes = AlertEpisodes(redis)
        self._has_measured = False
        self.level = PressureLevel.ALL

    def check_request(self) -> None:
        """Refuse a request before anything of it is looked at.

        Raises:
            QueueUnavailable: nothing is taken now.
        """
        if self.level is PressureLevel.NOTHING:
            raise QueueUnavailable("queue_full", retry_after_s=_RETRY_AFTER_S)

    @property
    def accepts_all(self) -> bool:
        """Whether nothing is sent back, whatever it is."""
        return self.level is PressureLevel.ALL

    def check_events(self, events: list[Event]) -> None:
        """Refuse a request that holds events of an import, when those are sent back.

        Raises:
            QueueUnavailable: it does, and they are.
        """
        if self.level is PressureLevel.NO_IMPORTS and any(event.change_source == "IMPORT" for event in events):
            raise QueueUnavailable("queue_full_for_imports", retry_after_s=_RETRY_AFTER_S)

    async def run(self, stop: asyncio.Event) -> None:
        """Measure until `stop` is set."""
        while not stop.is_set():
            try:
                await self.measure()
            except (RedisError, OSError):
                log.warning("load_unknown")  # admission itself finds out soon enough
            await wait_for_stop(stop, _MEASURE_EVERY_S)

    async def measure(self) -> None:
        """Measure once, and tell when the door closes or opens."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.zcard(JOB_QUEUE)
            pipeline.xlen(AUDIT_STREAM)
            pipeline.info("memory")
            queue, records, memory = await pipeline.execute()
        shares = {"queue": queue / self._limits["queue"], "records": records / self._limits["records"]}
        if most := memory["maxmemory"]:
            shares["memory"] = memory["used_memory"] / (most * self._memory_share)
        fullest = max(shares, key=lambda name: shares[name])
        before, self.level = self.level, pressure_level(shares[fullest], self.level)
        if self.level != before or not self._has_measured:
            await self._publish(taken=self.level.name.lower(), limit=fullest, share=round(shares[fullest], 2))
        self._has_measured = True

    async def _publish(self, **fields: Any) -> None:
        stands = self.level is not PressureLevel.ALL
        try:
            await self._episodes.set_state(Alert.QUEUE_FILLING, is_active=stands, **fields)
        except (RedisError, OSError):  # so full that it takes not even this
            if stands:
                log_alert(Alert.QUEUE_FILLING, **fields)


async def wait_for_stop(stop: asyncio.Event, timeout_s: float) -> None:
    """Wait `seconds`, or until `stop` is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await stop.wait()
