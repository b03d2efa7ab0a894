"""`WebHeartbeat`: web processes write the time, and report that for a while none of them did."""

from typing import Final

from redis.asyncio import Redis

from spokes.core import clock
from spokes.core.redis.keys import GAP_REPORTS, WEB_HEARTBEAT
from spokes.core.redis.scripts import read_script
from spokes.gaps.gap import GapCause
from spokes.gaps.refused_deliveries import DELIVERY_MARGIN_MS

BEAT_EVERY_S: Final = 5.0
LONGEST_SILENCE_MS: Final = 60_000  # a shorter one is a restart, after which HubSpot's next attempt arrives
_SCRIPT: Final = read_script(__file__, "heartbeat.lua")


class WebHeartbeat:
    """The heartbeat of one web process."""

    def __init__(self, redis: Redis) -> None:
        """Write to `redis`, which the caller closes."""
        self._redis = redis
        self._script = redis.register_script(_SCRIPT)
        self._running_since = self._last_tick = clock.now_ms()

    async def beat(self) -> None:
        """Write the heartbeat.

        Raises:
            RedisError, OSError: Redis does not answer; the next heartbeat reports it.
        """
        now = clock.now_ms()
        if now - self._last_tick > LONGEST_SILENCE_MS:  # the machine slept, or the process was stopped
            self._running_since = now
        self._last_tick = now
        args = (now, self._running_since, LONGEST_SILENCE_MS, DELIVERY_MARGIN_MS, GapCause.NO_WEB_PROCESS)
        await self._script(keys=[WEB_HEARTBEAT, GAP_REPORTS], args=args)
