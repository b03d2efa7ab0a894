"""Effects that must not be repeated. Rule: "begun" is written before the effect, its result after it.

What stands at "begun" was cut off in between, and is looked for before it is made again.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from redis.asyncio import Redis

from core.events import Event
from workers import keys

KEEP_S: Final = 400 * 86_400  # longer than any retry, replay or dead letter; deals reopen after months
_BEGUN: Final = b"begun"


class OnceForEvent:
    """`tools.once` for one event: effects are remembered by object, so that two events of one object share them."""

    def __init__(self, redis: Redis, event: Event) -> None:
        self._redis = redis
        self._key = keys.once(event.portal_id, event.object_type, event.survivor_id)

    async def __call__(
        self, name: str, make: Callable[[], Awaitable[str]], *, find: Callable[[], Awaitable[str | None]] | None = None
    ) -> str:
        """See handlers.tools.Once."""
        known = await self._redis.hget(self._key, name)  # type: ignore[misc]  # redis-py types one class for sync and async
        if known is not None and known != _BEGUN:
            return str(known.decode())
        made = await find() if known == _BEGUN and find is not None else None
        if made is None:
            await self._write(name, _BEGUN.decode())
            made = await make()
        await self._write(name, made)
        return made

    async def _write(self, name: str, value: str) -> None:
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hset(self._key, name, value)
            pipeline.expire(self._key, KEEP_S)
            await pipeline.execute()
