"""Claim no deliveries while Redis is nearly full, or while a key that every delivery needs holds another type.

Deliveries that run write audit records before they free their payload. Above the mark, no new ones begin until the
archiver has moved the records out of Redis; without records to move, nothing would free memory but deliveries that run.
"""

from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core.redis.errors import RedisFault, classify
from spokes.core.redis.key_types import DELIVERY_KEYS
from spokes.core.redis.keys import AUDIT_STREAM
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import Alert
from spokes.core.telemetry.setup import log_alert
from workers.queue.foreign_values import ForeignValues

MEASURE_EVERY_S: Final = 1.0
_CLOSE_FROM: Final = 0.95  # share of maxmemory
_REOPEN_BELOW: Final = 0.92


class ClaimGate:
    """Whether to claim, as of the last measurement."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._foreign_values = ForeignValues(redis, settings)
        self._episodes = AlertEpisodes(redis)
        self._reported: bool | None = None  # the alert's state as we set it; another process may have set it before
        self.is_open = True

    async def measure(self) -> None:
        """Measure once, and replace what something else wrote; publish the alert's state when it changes.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        if wrong := [name for name in await self._foreign_values.replace() if name in DELIVERY_KEYS]:
            self.is_open = False
            await self._publish(reason="key_type", keys=wrong)
            return
        share = await self._memory_share()
        # Not read while there is memory: it costs a call each second.
        has_records = share >= _REOPEN_BELOW and bool(await self._redis.xlen(AUDIT_STREAM))
        self.is_open = may_claim(share, has_records=has_records, was_open=self.is_open)
        await self._publish(reason="memory", share=round(share, 2))

    async def _memory_share(self) -> float:
        """Return the used share of maxmemory; 0 without a limit, or if the Redis user may not read it."""
        try:
            memory = await self._redis.info("memory")
        except RedisError as error:
            if classify(error) is RedisFault.UNUSABLE:  # a Redis user without INFO
                return 0.0
            raise
        limit = int(memory.get("maxmemory", 0))
        return int(memory["used_memory"]) / limit if limit else 0.0

    async def _publish(self, **fields: Any) -> None:
        is_active = not self.is_open
        if is_active == self._reported:
            return
        self._reported = is_active
        try:
            await self._episodes.set_state(Alert.CLAIMS_STOPPED, is_active=is_active, **fields)
        except (RedisError, OSError):  # one of the keys may be that of the alerts
            if is_active:
                log_alert(Alert.CLAIMS_STOPPED, **fields)


def may_claim(share: float, *, has_records: bool, was_open: bool) -> bool:
    """Return whether to claim while this share of Redis' memory is used; `has_records` wait for the archiver."""
    return share < (_CLOSE_FROM if was_open else _REOPEN_BELOW) or not has_records
