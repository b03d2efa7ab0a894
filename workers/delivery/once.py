"""`tools.once`: effects that must not be repeated, although HubSpot has no idempotency keys.

"begun" is stored before the effect, its result after it. An effect left at "begun" was interrupted in between: it is
searched for before it is created again.

The first handler that uses a name on an object stores its effect under that name. Another handler of the same events
adds its own name. An effect without an owner was stored by an earlier version and counts for every handler, because a
missing effect can be made up for and a repeated one cannot.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from spokes.core.errors import CRMError, RetryLater
from spokes.core.events import Event
from spokes.core.redis import keys

RESULT_TTL_S: Final = 400 * 86_400  # longer than any retry, replay or dead letter; deals reopen after months
_IN_FLIGHT_S: Final = 20  # HubSpot may still carry out a call whose response was lost; an earlier search would miss it
_RENEWED_S: Final = 5.0  # a call may wait long for the rate budget before it is sent
_BEGUN: Final = b"begun"


class OnceGuard:
    """`tools.once` for one event. Effects are stored per object, so two events of one object share them.

    The handlers of one event do not (`is_shared`): each has its own effects.
    """

    def __init__(self, redis: Redis, event: Event, handler: str = "", *, is_shared: bool = False) -> None:
        self._redis = redis
        self._key = keys.once_effects(event.portal_id, event.object_type, event.survivor_id)
        self._handler = handler
        self._is_shared = is_shared
        self._locks: dict[str, asyncio.Lock] = {}  # by effect: a handler may ask for one several times at once

    async def __call__(
        self,
        name: str,
        create: Callable[[], Awaitable[str]],
        *,
        find: Callable[[], Awaitable[str | None]] | None = None,
    ) -> str:
        """See spokes.tools.Once."""
        async with self._locks.setdefault(_checked_name(name), asyncio.Lock()):
            field, stored = await self._read(name)
            if stored is not None and stored != _BEGUN:
                return stored.decode()
            result = await self._find_earlier(field, find) if stored == _BEGUN and find is not None else None
            if result is None:
                await self._mark_begun(field)
                result = await self._create(field, create)
            result = _as_text(name, result)
            await self._store(field, result)
            return result

    async def _create(self, field: str, create: Callable[[], Awaitable[str]]) -> str:
        """Have the effect; it counts as in flight until some seconds after the last moment at which it was."""
        renewal = asyncio.create_task(self._stay_in_flight(field))
        try:
            return await create()
        except CRMError as error:
            if _has_ended(error):
                await self._redis.delete(self._in_flight_key(field))
            raise
        finally:
            renewal.cancel()

    async def _stay_in_flight(self, field: str) -> None:
        while True:
            await asyncio.sleep(_RENEWED_S)
            with suppress(RedisError, OSError):
                await self._redis.set(self._in_flight_key(field), 1, ex=_IN_FLIGHT_S)

    async def _read(self, name: str) -> tuple[str, bytes | None]:
        """Return the field of the handler's effect, and what it holds."""
        own = f"{name}@{self._handler}"
        of_own, of_name, owner = await self._redis.hmget(self._key, (own, name, _owner_field(name)))  # type: ignore[misc,arg-type]  # redis-py types one class for sync and async, and knows lists only
        if of_own is not None:
            return own, of_own
        is_others = self._is_shared and owner is not None and owner.decode() != self._handler
        return (own, None) if is_others else (name, of_name)

    async def _find_earlier(self, field: str, find: Callable[[], Awaitable[str | None]]) -> str | None:
        """Search for the effect of an interrupted run.

        Raises:
            RetryLater: HubSpot may still be carrying out the interrupted call.
        """
        left_ms = await self._redis.pttl(self._in_flight_key(field))
        if left_ms > 0:
            raise RetryLater(left_ms / 1000)
        return await find()

    def _in_flight_key(self, field: str) -> str:
        """Return the key that exists while the effect may still happen; it expires by Redis' clock, shared by all."""
        return f"{self._key}:{field}"

    async def _mark_begun(self, field: str) -> None:
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hset(self._key, field, _BEGUN.decode())
            if self._handler and not field.endswith(f"@{self._handler}"):
                pipeline.hsetnx(self._key, _owner_field(field), self._handler)
            pipeline.expire(self._key, RESULT_TTL_S)
            pipeline.set(self._in_flight_key(field), 1, ex=_IN_FLIGHT_S)
            await pipeline.execute()

    async def _store(self, field: str, result: str) -> None:
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hset(self._key, field, result)
            pipeline.expire(self._key, RESULT_TTL_S)
            await pipeline.execute()


def _has_ended(error: CRMError) -> bool:
    """Return whether a call that failed has no later effect: HubSpot itself has answered, not a gateway in between."""
    is_answer = HTTPStatus.BAD_REQUEST <= error.status <= HTTPStatus.INTERNAL_SERVER_ERROR
    return is_answer and error.status != HTTPStatus.REQUEST_TIMEOUT


def _checked_name(name: object) -> str:
    """Return the name of an effect.

    Raises:
        TypeError: it is none; nothing has happened.
    """
    if not isinstance(name, str) or not name:
        raise TypeError('tools.once needs a name for the effect: write tools.once("welcome-note", create, find=find)')
    return name


def _as_text(name: str, result: object) -> str:
    """Return the id that `create` or `find` returned.

    Raises:
        TypeError: it is none. The effect has happened, so the next run searches for it.
    """
    if isinstance(result, str):
        return result
    if isinstance(result, int) and not isinstance(result, bool):
        return str(result)
    kind = type(result).__name__
    raise TypeError(f"tools.once({name!r}): create and find return an id as text, and this one returned {kind}")


def _owner_field(name: str) -> str:
    """Return the field that names the handler whose effect is stored under `name` alone."""
    return f"{name}@"
