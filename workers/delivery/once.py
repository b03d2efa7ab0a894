"""`tools.once`: effects that must not be repeated, although HubSpot has no idempotency keys.

"begun" is stored before the effect, its result after it. An effect left at "begun" was interrupted in between: it is
searched for before it is created again.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from redis.asyncio import Redis

from spokes.core.errors import CRMError, RetryLater
from spokes.core.events import Event
from spokes.core.redis import keys

RESULT_TTL_S: Final = 400 * 86_400  # longer than any retry, replay or dead letter; deals reopen after months
_IN_FLIGHT_S: Final = 20  # HubSpot may still carry out a call whose response was lost; an earlier search would miss it
_BEGUN: Final = b"begun"


class OnceGuard:
    """`tools.once` for one event. Effects are stored per object, so two events of one object share them."""

    def __init__(self, redis: Redis, event: Event) -> None:
        self._redis = redis
        self._key = keys.once_effects(event.portal_id, event.object_type, event.survivor_id)

    async def __call__(
        self,
        name: str,
        create: Callable[[], Awaitable[str]],
        *,
        find: Callable[[], Awaitable[str | None]] | None = None,
    ) -> str:
        """See spokes.tools.Once."""
        stored = await self._redis.hget(self._key, name)  # type: ignore[misc]  # redis-py types one class for sync and async
        if stored is not None and stored != _BEGUN:
            return str(stored.decode())
        result = await self._find_earlier(name, find) if stored == _BEGUN and find is not None else None
        if result is None:
            await self._mark_begun(name)
            try:
                result = await create()
            except CRMError as error:
                if error.status:  # HubSpot has answered, so the call has no later effect
                    await self._redis.delete(self._in_flight_key(name))
                raise
        await self._store(name, result)
        return result

    async def _find_earlier(self, name: str, find: Callable[[], Awaitable[str | None]]) -> str | None:
        """Search for the effect of an interrupted run.

        Raises:
            RetryLater: HubSpot may still be carrying out the interrupted call.
        """
        left_ms = await self._redis.pttl(self._in_flight_key(name))
        if left_ms > 0:
            raise RetryLater(left_ms / 1000)
        return await find()

    def _in_flight_key(self, name: str) -> str:
        """Return the key that exists while the effect may still happen; it expires by Redis' clock, shared by all."""
        return f"{self._key}:{name}"

    async def _mark_begun(self, name: str) -> None:
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hset(self._key, name, _BEGUN.decode())
            pipeline.expire(self._key, RESULT_TTL_S)
            pipeline.set(self._in_flight_key(name), 1, ex=_IN_FLIGHT_S)
            await pipeline.execute()

    async def _store(self, name: str, result: str) -> None:
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hset(self._key, name, result)
            pipeline.expire(self._key, RESULT_TTL_S)
            await pipeline.execute()
