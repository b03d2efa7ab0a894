"""Effects that must not be repeated. Rule: "begun" is written before the effect, its result after it.

What stands at "begun" was cut off in between, and is looked for before it is made again.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from redis.asyncio import Redis

from spokes.core.errors import CRMError, RetryLater
from spokes.core.events import Event
from spokes.core.redis import keys

RESULT_TTL_S: Final = 400 * 86_400  # longer than any retry, replay or dead letter; deals reopen after months
_IN_FLIGHT_S: Final = 20  # an answer that was not waited for; looking earlier would find nothing, and make a second
_BEGUN: Final = b"begun"


class OnceGuard:
    """`tools.once` for one event: effects are remembered by object, so that two events of one object share them."""

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
        known = await self._redis.hget(self._key, name)  # type: ignore[misc]  # redis-py types one class for sync and async
        if known is not None and known != _BEGUN:
            return str(known.decode())
        made = await self._find_earlier(name, find) if known == _BEGUN and find is not None else None
        if made is None:
            await self._mark_begun(name)
            try:
                made = await create()
            except CRMError as error:
                if error.status:  # HubSpot has answered, so nothing comes any more
                    await self._redis.delete(self._in_flight_key(name))
                raise
        await self._store(name, made)
        return made

    async def _find_earlier(self, name: str, find: Callable[[], Awaitable[str | None]]) -> str | None:
        """Look for what an earlier run made, once it would be there.

        Raises:
            RetryLater: HubSpot may still be carrying out a call that nobody waits for any more.
        """
        left_ms = await self._redis.pttl(self._in_flight_key(name))
        if left_ms > 0:
            raise RetryLater(left_ms / 1000)
        return await find()

    def _in_flight_key(self, name: str) -> str:
        """Key that stands for as long as the effect may still come of itself: Redis' clock is the same for all."""
        return f"{self._key}:{name}"

    async def _mark_begun(self, name: str) -> None:
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hset(self._key, name, _BEGUN.decode())
            pipeline.expire(self._key, RESULT_TTL_S)
            pipeline.set(self._in_flight_key(name), 1, ex=_IN_FLIGHT_S)
            await pipeline.execute()

    async def _store(self, name: str, value: str) -> None:
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hset(self._key, name, value)
            pipeline.expire(self._key, RESULT_TTL_S)
            await pipeline.execute()
