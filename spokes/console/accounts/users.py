"""People with an account here, in Redis beside the queue. Rule: passwords are kept as Argon2id, and links as hashes.

Checking the password of a name that does not exist takes as long as that of one that does.
"""

import asyncio
import hashlib
import os
import re
import secrets
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import orjson
from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from spokes.audit.records import AuditRecord
from spokes.audit.stream import append
from spokes.console.accounts.policy import Role

LINK_S: Final = 600  # a login link can be used for so long, once
SHORTEST: Final = 12  # characters of a password
LONGEST: Final = 1_000
NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,99}")
_USERS: Final = "spokes:console:users"
_LINK: Final = "spokes:console:link:"
_MEMORY_KB, _PASSES, _LANES = 19 * 1024, 2, 1  # the least of OWASP's advice: a small dyno holds a few at a time
_AT_ONCE: Final = asyncio.Semaphore(2)  # passwords checked at a time; each takes 19 MB


@dataclass(frozen=True, slots=True)
class User:
    """An account; `portals` None is all that this deployment serves."""

    name: str
    roles: frozenset[Role]
    portals: frozenset[int] | None
    phc: str  # the hashed password; empty for who comes by login links alone


@dataclass(frozen=True, slots=True)
class Users:
    """What can be done with accounts. Everything raises RedisError or OSError when Redis does not answer."""

    redis: Redis

    async def put(
        self,
        name: str,
        roles: Collection[Role],
        portals: Collection[int] | None = None,
        password: str = "",
        *,
        told: AuditRecord | None = None,
    ) -> None:
        """Make an account, or change the one of that name; `told` goes into the audit with it, as everywhere here."""
        kept = {
            "roles": sorted(roles),
            "portals": None if portals is None else sorted(portals),
            "phc": await asyncio.to_thread(_hashed, password) if password else "",
        }
        async with self._telling(told) as pipeline:
            pipeline.hset(_USERS, name, orjson.dumps(kept).decode())

    async def find(self, name: str) -> User | None:
        """Return the account of a name."""
        kept = await self.redis.hget(_USERS, name)  # type: ignore[misc]  # as above
        return None if kept is None else _user(name, kept)

    async def all(self) -> tuple[User, ...]:
        """Return all accounts by name."""
        kept = await self.redis.hgetall(_USERS)  # type: ignore[misc]  # as above
        return tuple(sorted((_user(_text(name), told) for name, told in kept.items()), key=lambda user: user.name))

    async def remove(self, name: str, *, told: AuditRecord | None = None) -> bool:
        """Remove an account; return whether there was one. Its sessions are for `Sessions.end_all`."""
        if await self.find(name) is None:
            return False
        async with self._telling(told) as pipeline:
            pipeline.hdel(_USERS, name)
        return True

    async def check(self, name: str, password: str) -> User | None:
        """Return the account that name and password open."""
        user = await self.find(name) if NAME.fullmatch(name) else None
        phc = user.phc if user is not None and user.phc else _NOBODYS
        async with _AT_ONCE:
            opens = await asyncio.to_thread(_opens, phc, password[:LONGEST])
        return user if opens and phc is not _NOBODYS else None

    async def link(self, name: str, *, told: AuditRecord | None = None) -> str:
        """Return what a login link of that name bears; it opens once, and for ten minutes."""
        word = secrets.token_urlsafe(32)
        async with self._telling(told) as pipeline:
            pipeline.set(_place(word), name, ex=LINK_S)
        return word

    async def open_link(self, word: str) -> User | None:
        """Return whose login link it is, and use it up."""
        name = await self.redis.getdel(_place(word))
        return None if name is None else await self.find(_text(name))

    @asynccontextmanager
    async def _telling(self, told: AuditRecord | None) -> AsyncIterator[Pipeline]:
        """Change something and tell of it, both or neither."""
        async with self.redis.pipeline(transaction=True) as pipeline:
            yield pipeline
            if told is not None:
                append(pipeline, told)
            await pipeline.execute()


def _place(word: str) -> str:
    return _LINK + hashlib.sha256(word.encode(errors="replace")).hexdigest()


def _user(name: str, kept: bytes) -> User:
    told = orjson.loads(kept)
    portals = None if told["portals"] is None else frozenset(told["portals"])
    return User(name, frozenset(map(Role, told["roles"])), portals, told["phc"])


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _hashed(password: str) -> str:
    kdf = Argon2id(salt=os.urandom(16), length=32, iterations=_PASSES, lanes=_LANES, memory_cost=_MEMORY_KB)
    return kdf.derive_phc_encoded(password.encode())


def _opens(phc: str, password: str) -> bool:
    try:
        Argon2id.verify_phc_encoded(password.encode(errors="replace"), phc)
    except InvalidKey:
        return False
    return True


_NOBODYS: Final = _hashed(secrets.token_urlsafe(32))
