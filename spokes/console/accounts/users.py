"""Local accounts in Redis, sealed with CONSOLE_KEY. Passwords are Argon2id hashes, login links SHA-256 hashes.

An account that is not sealed does not open: an earlier version stored it, or another program wrote it to Redis. An
operator seals those that are right (`spokes user seal`).

Verifying the password of an unknown name takes as long as that of a known one, so that timing does not reveal names.
"""

import asyncio
import hashlib
import os
import re
import secrets
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import orjson
from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from spokes.audit.alerts.bad_items import READ_ERRORS, read_items
from spokes.audit.records import AuditRecord
from spokes.audit.stream import append
from spokes.console.accounts.policy import Role
from spokes.console.accounts.seals import Seals
from spokes.core.redis import keys
from spokes.core.redis.key_names import console_keys

LINK_TTL_S: Final = 600  # how long a login link is valid
MIN_PASSWORD_LENGTH: Final = 12  # characters
MAX_PASSWORD_LENGTH: Final = 1_000
NAME_PATTERN: Final = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,99}")
# OWASP's minimum for Argon2id: a small dyno has memory for a few hashes at a time.
_MEMORY_KB, _ITERATIONS, _PARALLELISM = 19 * 1024, 2, 1
_HASHING_SLOTS: Final = asyncio.Semaphore(2)  # concurrent password hashes; each takes 19 MB


@dataclass(frozen=True, slots=True)
class User:
    """An account; `portals` None means all that this deployment serves."""

    name: str
    roles: frozenset[Role]
    portals: frozenset[int] | None
    password_hash: str  # in PHC string format; empty if only login links open the account


@dataclass(frozen=True, slots=True)
class Users:
    """Stores and verifies accounts.

    Where a method takes a `record`, it is added to the audit in the same transaction. Every method raises RedisError or
    OSError if Redis does not answer.
    """

    redis: Redis
    seals: Seals

    async def put(
        self,
        name: str,
        roles: Collection[Role],
        portals: Collection[int] | None = None,
        password: str = "",
        *,
        record: AuditRecord | None = None,
    ) -> None:
        """Create an account, or replace the one of that name."""
        account = {
            "roles": sorted(roles),
            "portals": None if portals is None else sorted(portals),
            "phc": await asyncio.to_thread(_hash_password, password) if password else "",
        }
        async with self._transaction(record) as pipeline:
            pipeline.hset(
                keys.CONSOLE_USERS, name, self.seals.seal(_account_place(name), orjson.dumps(account)).decode()
            )

    async def find(self, name: str) -> User | None:
        """Return the account of a name."""
        payload = await self.redis.hget(keys.CONSOLE_USERS, name)  # type: ignore[misc]  # redis-py types one class for sync and async
        users = await read_items(self.redis, "account", [] if payload is None else [payload], partial(self._open, name))
        return users[0] if users else None

    async def all(self) -> tuple[User, ...]:
        """Return all accounts, sorted by name."""
        payloads = await self.redis.hgetall(keys.CONSOLE_USERS)  # type: ignore[misc]  # as above
        users = await read_items(
            self.redis, "account", payloads.items(), lambda item: self._open(_to_str(item[0]), item[1])
        )
        return tuple(sorted(users, key=lambda user: user.name))

    async def remove(self, name: str, *, record: AuditRecord | None = None) -> bool:
        """Remove an account; return whether it existed. Its sessions stay valid: call `Sessions.end_all` too."""
        if not await self.redis.hexists(keys.CONSOLE_USERS, name):  # type: ignore[misc]  # as above
            return False
        async with self._transaction(record) as pipeline:
            pipeline.hdel(keys.CONSOLE_USERS, name)
        return True

    async def unsealed(self) -> tuple[User, ...]:
        """Return the accounts that are stored unsealed, sorted by name."""
        payloads = await self.redis.hgetall(keys.CONSOLE_USERS)  # type: ignore[misc]  # as above
        users = []
        for name, payload in payloads.items():
            with suppress(*READ_ERRORS):
                users.append(_decode_user(_to_str(name), payload))
        return tuple(sorted(users, key=lambda user: user.name))

    async def unopened_count(self) -> int:
        """Return how many accounts do not open although they are sealed: with another CONSOLE_KEY, or changed."""
        payloads = await self.redis.hgetall(keys.CONSOLE_USERS)  # type: ignore[misc]  # as above
        count = 0
        for name, payload in payloads.items():
            try:
                self._open(_to_str(name), payload)
            except READ_ERRORS:
                count += 1
        return count - len(await self.unsealed())

    async def seal(self, name: str, *, record: AuditRecord | None = None) -> bool:
        """Seal an account that is stored unsealed; return whether there is one of that name."""
        payload = await self.redis.hget(keys.CONSOLE_USERS, name)  # type: ignore[misc]  # as above
        try:
            _decode_user(name, payload)
        except READ_ERRORS:
            return False
        async with self._transaction(record) as pipeline:
            pipeline.hset(keys.CONSOLE_USERS, name, self.seals.seal(_account_place(name), payload).decode())
        return True

    async def verify_password(self, name: str, password: str) -> User | None:
        """Return the account if the password is right, else None."""
        user = await self.find(name) if NAME_PATTERN.fullmatch(name) else None
        password_hash = user.password_hash if user is not None and user.password_hash else _DUMMY_HASH
        async with _HASHING_SLOTS:
            matches = await asyncio.to_thread(_password_matches, password_hash, password[:MAX_PASSWORD_LENGTH])
        return user if matches and password_hash is not _DUMMY_HASH else None

    async def create_login_link(self, name: str, *, record: AuditRecord | None = None) -> str:
        """Return the token of a new login link, valid once within ten minutes."""
        token = secrets.token_urlsafe(32)
        async with self._transaction(record) as pipeline:
            pipeline.set(_link_key(token), self.seals.seal(_link_key(token), name.encode()), ex=LINK_TTL_S)
        return token

    async def redeem_login_link(self, token: str) -> User | None:
        """Delete a login link; return its account, or None if the link is unknown or expired."""
        sealed = await self.redis.getdel(_link_key(token))
        try:
            name = b"" if sealed is None else self.seals.open(_link_key(token), sealed)
        except ValueError:  # an earlier version or another program wrote the link
            return None
        return await self.find(name.decode()) if name else None

    def _open(self, name: str, sealed: bytes) -> User:
        return _decode_user(name, self.seals.open(_account_place(name), sealed))

    @asynccontextmanager
    async def _transaction(self, record: AuditRecord | None) -> AsyncIterator[Pipeline]:
        """Run commands and the append of `record` in one transaction."""
        async with self.redis.pipeline(transaction=True) as pipeline:
            yield pipeline
            if record is not None:
                append(pipeline, record)
            await pipeline.execute()


def _account_place(name: str) -> str:
    return f"{keys.CONSOLE_USERS}:{name}"


def _link_key(token: str) -> str:
    return console_keys.console_login_link(hashlib.sha256(token.encode(errors="replace")).hexdigest())


def _decode_user(name: str, payload: bytes) -> User:
    account = orjson.loads(payload)
    portals = None if account["portals"] is None else frozenset(account["portals"])
    return User(name, frozenset(map(Role, account["roles"])), portals, account["phc"])


def _to_str(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _hash_password(password: str) -> str:
    kdf = Argon2id(salt=os.urandom(16), length=32, iterations=_ITERATIONS, lanes=_PARALLELISM, memory_cost=_MEMORY_KB)
    return kdf.derive_phc_encoded(password.encode())


def _password_matches(password_hash: str, password: str) -> bool:
    try:
        Argon2id.verify_phc_encoded(password.encode(errors="replace"), password_hash)
    except InvalidKey:
        return False
    return True


_DUMMY_HASH: Final = _hash_password(secrets.token_urlsafe(32))
