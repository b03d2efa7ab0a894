"""Refuse requests early while the queue, the audit stream, Redis' memory or the held deliveries of a portal fill up.

Fullness is measured once a second in the background; checking it costs a request nothing. Above a limit the receiver
answers 503, so that HubSpot's redelivery, which lasts 24 hours, is the buffer: imports are refused first, because
nobody waits for them, then everything. Deliveries that wait for the end of a pause count for their portal alone: above
its limit, only that portal's requests are refused. Acceptance resumes by itself.
"""

from collections import Counter
from enum import IntEnum
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core import clock
from spokes.core.errors import QueueUnavailable
from spokes.core.events import Event
from spokes.core.priority import priority_of
from spokes.core.redis.errors import RedisFault, classify
from spokes.core.redis.keys import AUDIT_STREAM, QUEUES
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.core.telemetry.setup import log_alert
from spokes.queue.held_deliveries import HeldDeliveries

MEASURE_EVERY_S: Final = 1.0
_REFUSE_IMPORTS_FROM: Final = 0.8  # share of a limit
_RECOVER_BELOW: Final = 0.95  # of the share at which refusing began, so that the level does not flutter
_SOON_MS: Final = 60_000  # deliveries due later wait for a time, not for workers: they fill memory alone
_RETRY_AFTER_S: Final = 30
_SENTENCES: Final = {
    "queue": (
        "The queue holds MAX_BACKLOG deliveries, so requests are refused. Start more workers, or raise MAX_BACKLOG."
    ),
    "records": (
        "MAX_UNARCHIVED audit records wait for the audit store, so requests are refused. Check DATABASE_URL and the "
        "workers."
    ),
    "held": (
        "MAX_HELD deliveries of a portal wait for the end of a pause, so its requests are refused. `spokes pause` "
        "shows the pauses. End them, or raise MAX_HELD."
    ),
    "memory": "The memory of Redis is full (maxmemory), so requests are refused. Add memory, or clear the backlog.",
}


class PressureLevel(IntEnum):
    """Which requests are accepted; a higher level accepts less."""

    ALL = 0
    NO_IMPORTS = 1
    NOTHING = 2


def pressure_level(fullness: float, previous: PressureLevel) -> PressureLevel:
    """Return the level for `fullness`, the share to which the fullest limit is used."""
    for candidate, share in ((PressureLevel.NOTHING, 1.0), (PressureLevel.NO_IMPORTS, _REFUSE_IMPORTS_FROM)):
        if fullness >= share * (_RECOVER_BELOW if previous >= candidate else 1.0):
            return candidate
    return PressureLevel.ALL


class Backpressure:
    """The pressure level as of the last measurement, at most about a second ago."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._limits = {"queue": settings.max_backlog, "records": settings.max_unarchived}
        self._memory_share = settings.max_memory_share
        self._held = HeldDeliveries(redis)
        self._max_held = settings.max_held
        self._episodes = AlertEpisodes(redis)
        self._has_measured = False
        self._fullest = "queue"
        self.level = PressureLevel.ALL
        self.full_portals: frozenset[int] = frozenset()

    @property
    def sentence(self) -> str:
        """Why requests are refused, and what to do."""
        return _SENTENCES["held" if self.full_portals and self.level is PressureLevel.ALL else self._fullest]

    def check_request(self) -> None:
        """Refuse a request before reading any of it.

        Raises:
            QueueUnavailable: nothing is accepted now.
        """
        if self.level is PressureLevel.NOTHING:
            raise QueueUnavailable("queue_full", retry_after_s=_RETRY_AFTER_S)

    @property
    def accepts_all(self) -> bool:
        """Whether no request is refused, whatever it contains."""
        return self.level is PressureLevel.ALL and not self.full_portals

    def check_events(self, events: list[Event]) -> None:
        """Refuse a request that contains import events while imports are refused, or events of a portal without room.

        Raises:
            QueueUnavailable: `events` contain one.
        """
        if self.full_portals and not self.full_portals.isdisjoint(event.portal_id for event in events):
            raise QueueUnavailable("queue_full_for_portal", retry_after_s=_RETRY_AFTER_S)
        if self.level is PressureLevel.NO_IMPORTS and any(
            priority_of(event.change_source) == "import" for event in events
        ):
            raise QueueUnavailable("queue_full_for_imports", retry_after_s=_RETRY_AFTER_S)

    async def measure(self) -> None:
        """Measure once; publish the alert's state when the level changes."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for name in QUEUES.values():
                pipeline.zcount(name, "-inf", clock.now_ms() + _SOON_MS)
            pipeline.xlen(AUDIT_STREAM)
            pipeline.info("memory")
            *queues, records, memory = await pipeline.execute(raise_on_error=False)
        for reply in (*queues, records, memory):
            if isinstance(reply, Exception) and not (reply is memory and classify(reply) is RedisFault.UNUSABLE):
                raise reply
        shares = {"queue": sum(queues) / self._limits["queue"], "records": records / self._limits["records"]}
        # A Redis user may lack INFO: the other limits hold without it.
        if not isinstance(memory, Exception) and (max_memory := memory["maxmemory"]):
            shares["memory"] = memory["used_memory"] / (max_memory * self._memory_share)
        fullest = max(shares, key=lambda name: shares[name])
        self._fullest = fullest
        previous, self.level = (self.level, self.full_portals), pressure_level(shares[fullest], self.level)
        self.full_portals = await self._measure_held()
        if previous != (self.level, self.full_portals) or not self._has_measured:
            taken, share = self.level.name.lower(), round(shares[fullest], 2)
            if self.full_portals and self.level is PressureLevel.ALL:
                await self._publish(taken=taken, limit="held", portals=len(self.full_portals))
            else:
                await self._publish(taken=taken, limit=fullest, share=share)
        self._has_measured = True

    async def _measure_held(self) -> frozenset[int]:
        """Return the portals that may hold no more deliveries."""
        held: Counter[int] = Counter()
        for calls, count in (await self._held.counts()).items():
            held[calls.portal_id] += count
        return frozenset(
            portal_id
            for portal_id, count in held.items()
            if count >= self._max_held * (_RECOVER_BELOW if portal_id in self.full_portals else 1.0)
        )

    async def _publish(self, **fields: Any) -> None:
        is_active = not self.accepts_all
        try:
            await self._episodes.set_state(Alert.QUEUE_FILLING, is_active=is_active, **fields)
        except (RedisError, OSError):  # Redis may be too full to store even the alert
            if is_active:
                log_alert(Alert.QUEUE_FILLING, **fields)
