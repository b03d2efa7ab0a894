"""Browser sessions in Redis. Deleting the key ends the session at once.

A session's key contains the hash of its cookie, and its value is sealed for that key: neither reading nor writing Redis
allows taking a session over or starting one.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

import orjson
from redis.asyncio import Redis

from spokes.console.accounts.actors import Actor
from spokes.console.accounts.policy import Role
from spokes.console.accounts.seals import Seals
from spokes.core.masking import derive_key
from spokes.core.redis.key_names import console_keys
from spokes.core.settings import Settings

COOKIE: Final = "__Host-spokes"
IDLE_S: Final = 3600
MAX_AGE_S: Final = 12 * 3600


@dataclass(frozen=True, slots=True)
class Sessions:
    """Starts, finds and ends sessions; `key` signs CSRF tokens."""

    redis: Redis
    key: bytes
    seals: Seals

    @classmethod
    def from_settings(cls, redis: Redis, settings: Settings) -> Self:
        """Return an instance with the keys derived from CONSOLE_KEY."""
        key = derive_key(settings.console_key.get_secret_value(), "csrf")
        return cls(redis, key, Seals.from_settings(settings))

    async def start(self, name: str, roles: Iterable[Role], portals: Iterable[int] | None) -> str:
        """Start a session; return the value of its cookie.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        cookie = secrets.token_urlsafe(32)
        key = _session_key(cookie)
        session = {"name": name, "roles": sorted(roles), "portals": None if portals is None else sorted(portals)}
        index = console_keys.console_sessions(name)
        async with self.redis.pipeline(transaction=True) as pipeline:
            pipeline.set(key, self.seals.seal(key, orjson.dumps({**session, "began": int(time.time())})), ex=IDLE_S)
            pipeline.sadd(index, key)
            pipeline.expire(index, MAX_AGE_S)
            await pipeline.execute()
        return cookie

    async def find(self, cookie: str, *, touch: bool = True) -> Actor | None:
        """Return the actor of a session, or None if it has ended; `touch` restarts the idle hour.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        key = _session_key(cookie)
        payload = await (self.redis.getex(key, ex=IDLE_S) if touch else self.redis.get(key))
        if payload is None:
            return None
        try:
            session = orjson.loads(self.seals.open(key, payload))
        except ValueError:  # an earlier version or another program wrote it
            return None
        if time.time() - session["began"] > MAX_AGE_S:
            await self.end(cookie)
            return None
        portals = None if session["portals"] is None else frozenset(session["portals"])
        return Actor(
            session["name"], frozenset(map(Role, session["roles"])), portals, csrf_token=self.csrf_token(cookie)
        )

    async def end(self, cookie: str) -> None:
        """End a session.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        await self.redis.delete(_session_key(cookie))

    async def end_all(self, name: str) -> int:
        """End every session of an actor; return how many there were.

        Raises:
            RedisError, OSError: Redis does not answer.
        """
        session_keys = await self.redis.smembers(console_keys.console_sessions(name))  # type: ignore[misc]  # redis-py types one class for sync and async
        ended = int(await self.redis.delete(*session_keys)) if session_keys else 0
        await self.redis.delete(console_keys.console_sessions(name))
        return ended

    def csrf_token(self, cookie: str) -> str:
        """Return the CSRF token of the session's forms."""
        return hmac.digest(self.key, cookie.encode(), "sha256").hex()


def _session_key(cookie: str) -> str:
    return console_keys.console_session(hashlib.sha256(cookie.encode(errors="replace")).hexdigest())
