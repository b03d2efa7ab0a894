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

LINK_TTL_S: Final = 600  # a login link can be used for so long, once
MIN_PASSWORD_LENGTH: Final = 12  # characters of a password
MAX_PASSWORD_LENGTH: Final = 1_000
NAME_PATTERN: Final = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,99}")
_USERS_KEY: Final = "spokes:console:users"
_LINK_PREFIX: Final = "spokes:console:link:"
_MEMORY_KB, _ITERATIONS, _PARALLELISM = (
    19 * 1024,
    2,
    1,
)  # the least of OWASP's advice: a small dyno holds a few at a time
_HASHING_SLOTS: Final = asyncio.Semaphore(2)  # passwords checked at a time; each takes 19 MB


@dataclass(frozen=True, slots=True)
class User:
    """An account; `portals` None is all that this deployment serves."""

    name: str
    roles: frozenset[Role]
    portals: frozenset[int] | None
    password_hash: str  # the hashed password; empty for who comes by login links alone


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
        record: AuditRecord | None = None,
    ) -> None:
        """Make an account, or change the one of that name; `told` goes into the audit with it, as everywhere here."""
        kept = {
            "roles": sorted(roles),
            "portals": None if portals is None else sorted(portals),
            "phc": await asyncio.to_thread(_hash_password, password) if password else "",
        }
        async with self._transaction(record) as pipeline:
            pipeline.hset(_USERS_KEY, name, orjson.dumps(kept).decode())

    async def find(self, name: str) -> User | None:
        """Return the account of a name."""
        kept = await self.redis.hget(_USERS_KEY, name)  # type: ignore[misc]  # as above
        return None if kept is None else _decode_user(name, kept)

    async def all(self) -> tuple[User, ...]:
        """Return all accounts by name."""
        kept = await self.redis.hgetall(_USERS_KEY)  # type: ignore[misc]  # as above
        return tuple(
            sorted((_decode_user(_to_str(name), told) for name, told in kept.items()), key=lambda user: user.name)
        )

    async def remove(self, name: str, *, record: AuditRecord | None = None) -> bool:
        """Remove an account; return whether there was one. Its sessions are for `Sessions.end_all`."""
        if await self.find(name) is None:
            return False
        async with self._transaction(record) as pipeline:
            pipeline.hdel(_USERS_KEY, name)
        return True

    async def verify_password(self, name: str, password: str) -> User | None:
        """Return the account that name and password open."""
        user = await self.find(name) if NAME_PATTERN.fullmatch(name) else None
        phc = user.password_hash if user is not None and user.password_hash else _DUMMY_HASH
        async with _HASHING_SLOTS:
            opens = await asyncio.to_thread(_password_matches, phc, password[:MAX_PASSWORD_LENGTH])
        return user if opens and phc is not _DUMMY_HASH else None

    async def create_login_link(self, name: str, *, record: AuditRecord | None = None) -> str:
        """Return what a login link of that name bears; it opens once, and for ten minutes."""
        word = secrets.token_urlsafe(32)
        async with self._transaction(record) as pipeline:
            pipeline.set(_link_key(word), name, ex=LINK_TTL_S)
        return word

    async def redeem_login_link(self, token: str) -> User | None:
        """Return whose login link it is, and use it up."""
        name = await self.redis.getdel(_link_key(token))
        return None if name is None else await self.find(_to_str(name))

    @asynccontextmanager
    async def _transaction(self, record: AuditRecord | None) -> AsyncIterator[Pipeline]:
        """Change something and tell of it, both or neither."""
        async with self.redis.pipeline(transaction=True) as pipeline:
            yield pipeline
            if record is not None:
                append(pipeline, record)
            await pipeline.execute()


def _link_key(token: str) -> str:
    return _LINK_PREFIX + hashlib.sha256(token.encode(errors="replace")).hexdigest()


def _decode_user(name: str, kept: bytes) -> User:
    told = orjson.loads(kept)
    portals = None if told["portals"] is None else frozenset(told["portals"])
    return User(name, frozenset(map(Role, told["roles"])), portals, told["phc"])


def _to_str(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _hash_password(password: str) -> str:
    kdf = Argon2id(salt=os.urandom(16), length=32, iterations=_ITERATIONS, lanes=_PARALLELISM, memory_cost=_MEMORY_KB)
    return kdf.derive_phc_encoded(password.encode())


def _password_matches(phc: str, password: str) -> bool:
    try:
        Argon2id.verify_phc_encoded(password.encode(errors="replace"), phc)
    except InvalidKey:
        return False
    return True


_DUMMY_HASH: Final = _hash_password(secrets.token_urlsafe(32))
