"""The limits of handlers' runs, `@uses(concurrency=..., rate=...)`, which hold across all workers.

A run that a limit refuses waits here if its turn comes at once. Otherwise its event is postponed until then, and its
object's other events go on.
"""

import asyncio
from typing import TYPE_CHECKING, Final

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from spokes.core.redis.key_names import handler_keys as keys
from spokes.core.redis.scripts import read_script
from workers.lanes.lanes import Lane

if TYPE_CHECKING:
    from spokes.routing import Route

_SCRIPT: Final = read_script(__file__, "start_handler.lua")
_MAX_WAIT_S: Final = 0.5  # for which a run occupies one of the worker's tasks
_FIRST_RUN_S: Final = 1.0  # taken as the time of a run before one has ended
_WEIGHT: Final = 0.2  # of the newest run in the mean


def start_script(redis: Redis) -> AsyncScript:
    """Return the script that starts a run, or a call, unless a limit refuses it."""
    return redis.register_script(_SCRIPT)


class HandlerLimits:
    """Starts and ends the runs of limited handlers in one worker process."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._script = start_script(redis)
        self._mean_run_s: dict[str, float] = {}

    async def start(self, route: "Route", lane: Lane) -> float:
        """Return 0 if a run may begin, which `end` ends; otherwise the seconds after which its turn is expected."""
        waited_s = 0.0
        while (wait_s := await self._try(route, lane)) and waited_s + wait_s <= _MAX_WAIT_S:
            await asyncio.sleep(wait_s)
            waited_s += wait_s
        return wait_s

    async def end(self, route: "Route", lane: Lane, seconds: float) -> None:
        """End a run that took this long, so that another one may begin."""
        mean_s = self._mean_run_s.get(route.name, seconds)
        self._mean_run_s[route.name] = mean_s + _WEIGHT * (seconds - mean_s)
        if route.uses.limits.concurrency:
            await self._redis.hdel(keys.handler_runs(route.name), lane.key)  # type: ignore[misc]  # redis-py types one class for sync and async

    async def _try(self, route: "Route", lane: Lane) -> float:
        limits, name = route.uses.limits, route.name
        count, period_ms = limits.rate or (0, 0)
        run_ms = round(1000 * self._mean_run_s.get(name, _FIRST_RUN_S))
        wait_ms = await self._script(
            keys=[keys.handler_runs(name), keys.handler_starts(name), keys.handler_turn(name)],
            args=[lane.key, lane.token, limits.concurrency or 0, count, period_ms, run_ms],
        )
        return int(wait_ms) / 1000
