"""Deliveries that wait for the end of a pause, of a portal or of one kind of its calls.

A held delivery stays in its queue, due much later, and its id is in a set of the pause. So it cannot be lost: if
nothing makes it due when the pause ends, time does. `spokes:held` names the sets. Workers release every set whose pause
is over, even if the process that ended the pause died before it released anything.
"""

from typing import Final, NamedTuple, Self

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from spokes.audit.alerts.bad_items import read_items, report_bad_items
from spokes.core import clock
from spokes.core.redis import keys
from spokes.core.redis.errors import RedisFault, classify
from spokes.core.redis.scripts import read_script

ALL_CALLS: Final = "all"  # in place of a kind of calls: the portal is paused
_RELEASE: Final = read_script(__file__, "release_held.lua")
_CHUNK: Final = 500  # bounds how long one call holds Redis


class Calls(NamedTuple):
    """Calls of one kind to one portal, or with the kind ALL_CALLS all calls to it."""

    portal_id: int
    kind: str

    @property
    def field(self) -> str:
        """The form stored in Redis."""
        return f"{self.portal_id}:{self.kind}"

    @classmethod
    def from_field(cls, field: bytes) -> Self:
        """Parse the form stored in Redis."""
        portal_id, _, kind = field.decode().partition(":")
        return cls(int(portal_id), kind)


class HeldDeliveries:
    """The held deliveries of all pauses."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._release = redis.register_script(_RELEASE)

    async def release(self, calls: Calls) -> None:
        """Make all deliveries due that wait for the end of a pause of these calls."""
        while await self._release_some(calls, _CHUNK) > 0:
            pass

    async def release_probe(self, calls: Calls, lease_s: int) -> int:
        """Make the delivery due that has waited longest; return 0 if none waits, -1 if a probe is under way."""
        return await self._release_some(calls, 1, lease_s)

    async def waited_for(self) -> list[Calls]:
        """Return the calls that deliveries wait for, also those whose pause has ended."""
        try:
            names = await self._redis.smembers(keys.HELD_SETS)  # type: ignore[misc]  # redis-py types one class for sync and async
        except ResponseError as error:
            if classify(error) is not RedisFault.WRONG_TYPE:
                raise
            await report_bad_items(self._redis, "held_sets", 1)  # the deliveries become due by time
            return []
        return sorted(await read_items(self._redis, "held_sets", names, Calls.from_field))

    async def counts(self) -> dict[Calls, int]:
        """Return the number of deliveries that wait for the end of each pause, without those of which none wait."""
        waited_for = await self.waited_for()
        if not waited_for:
            return {}
        async with self._redis.pipeline(transaction=False) as pipeline:
            for calls in waited_for:
                pipeline.zcard(keys.held_deliveries(*calls))
            counts = await pipeline.execute(raise_on_error=False)  # a key of another type costs its own count
        return {calls: count for calls, count in zip(waited_for, counts, strict=True) if isinstance(count, int)}

    async def _release_some(self, calls: Calls, count: int, probe_s: int = 0) -> int:
        names = [keys.held_deliveries(*calls), keys.HELD_SETS, keys.WAKE_CHANNEL, keys.probe(*calls)]
        args: list[int | str] = [clock.now_ms(), count, probe_s, calls.field]
        return int(await self._release(keys=[*names, *keys.QUEUES.values()], args=args))
