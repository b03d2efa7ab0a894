"""Sessions of people, in Redis. Rule: a cookie that is not in Redis is nothing, so ending a session really ends it.

Redis knows a session by the hash of its cookie: who can read Redis cannot become somebody else.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import orjson
from redis.asyncio import Redis

from spokes.console.accounts.actors import Actor
from spokes.console.accounts.policy import Role

COOKIE: Final = "__Host-spokes"
IDLE_S: Final = 3600
MAX_AGE_S: Final = 12 * 3600
_PREFIX: Final = "spokes:console:session:"
_USER_PREFIX: Final = "spokes:console:sessions:"


@dataclass(frozen=True, slots=True)
class Sessions:
    """What can be done with sessions; `key` is for CSRF tokens alone."""

    redis: Redis
    key: bytes

    async def start(self, name: str, roles: Iterable[Role], portals: Iterable[int] | None) -> str:
        """Begin a session; return what its cookie holds.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        cookie = secrets.token_urlsafe(32)
        told = {"name": name, "roles": sorted(roles), "portals": None if portals is None else sorted(portals)}
        names = _USER_PREFIX + name
        async with self.redis.pipeline(transaction=True) as pipeline:
            pipeline.set(_session_key(cookie), orjson.dumps({**told, "began": int(time.time())}), ex=IDLE_S)
            pipeline.sadd(names, _session_key(cookie))
            pipeline.expire(names, MAX_AGE_S)
            await pipeline.execute()
        return cookie

    async def find(self, cookie: str, *, touch: bool = True) -> Actor | None:
        """Return whose session it is, None when it is over; `touch` lets the hour of idleness begin anew.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        place = _session_key(cookie)
        kept = await (self.redis.getex(place, ex=IDLE_S) if touch else self.redis.get(place))
        if kept is None:
            return None
        told = orjson.loads(kept)
        if time.time() - told["began"] > MAX_AGE_S:
            await self.end(cookie)
            return None
        portals = None if told["portals"] is None else frozenset(told["portals"])
        return Actor(told["name"], frozenset(map(Role, told["roles"])), portals, csrf_token=self.csrf_token(cookie))

    async def end(self, cookie: str) -> None:
        """End a session.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        await self.redis.delete(_session_key(cookie))

    async def end_all(self, name: str) -> int:
        """End every session of somebody; return how many there were.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        places = await self.redis.smembers(_USER_PREFIX + name)  # type: ignore[misc]  # redis-py types one class for sync and async
        ended = int(await self.redis.delete(*places)) if places else 0
        await self.redis.delete(_USER_PREFIX + name)
        return ended

    def csrf_token(self, cookie: str) -> str:
        """Return the token that the session's forms carry."""
        return hmac.digest(self.key, cookie.encode(), "sha256").hex()


def _session_key(cookie: str) -> str:
    return _PREFIX + hashlib.sha256(cookie.encode(errors="replace")).hexdigest()
