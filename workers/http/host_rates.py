"""The declared rates of hosts, which hold across all workers: the script that limits the starts of handlers."""

import asyncio
import os
from typing import TYPE_CHECKING, Final

from redis.asyncio import Redis

from spokes.core.redis.key_names import handler_keys as keys
from spokes.http.errors import HttpRateReached
from spokes.run_limits import Rate
from workers.handlers.limits import start_script

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_MAX_WAIT_S: Final = 2.0  # for which a call waits in its handler; otherwise the event is postponed


class HostRates:
    """The rates of all hosts in one worker process; tests replace `sleep`."""

    def __init__(self, redis: Redis) -> None:
        self.sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
        self._script = start_script(redis)

    async def wait(self, host: str, method: str, rate: Rate) -> None:
        """Wait until a call of the host may be sent.

        Raises:
            HttpRateReached: its turn is too far away.
        """
        starts, waited_s = keys.host_calls(host), 0.0
        while True:
            wait_ms = await self._script(
                keys=[starts, starts, keys.host_turn(host)],
                args=[os.urandom(8).hex(), "", 0, rate.starts, rate.period_ms, 0],
            )
            wait_s = int(wait_ms) / 1000
            if not wait_s:
                return
            if waited_s + wait_s > _MAX_WAIT_S:
                raise HttpRateReached(host, method, retry_after_s=wait_s)
            await self.sleep(wait_s)
            waited_s += wait_s
