"""Tokens of programs, for the API. Rule: one algorithm, one audience, an hour at most; every other token is nobody's.

They are signed with a key derived from CONSOLE_KEY, so a new CONSOLE_KEY ends all of them at once; `Revoked` ends one.

Tokens of the API that were taken back. Rule: kept for longer than any token lives, so none comes back.
"""

import hashlib
import secrets
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, NamedTuple

import jwt
from redis.asyncio import Redis

from spokes.audit.records import AuditRecord
from spokes.audit.stream import append
from spokes.console.accounts.actors import Actor, AuthMethod
from spokes.console.accounts.policy import Role
from spokes.core.errors import HttpProblem
from spokes.core.masking import derive_key
from spokes.core.settings import Settings

MAX_TTL_S: Final = 3600
ISSUER: Final = "spokes"
AUDIENCE: Final = "spokes-api"
_ALGORITHM: Final = "HS256"
LEEWAY_S: Final = 30  # clocks differ
_MAX_LENGTH: Final = 4096  # characters
_REQUIRED_CLAIMS: Final = ("iss", "aud", "exp", "iat", "sub", "jti", "roles")


class MintedToken(NamedTuple):
    """A token, and its own name."""

    token: str
    id: str


@dataclass(frozen=True, slots=True)
class ApiTokens:
    """Mints tokens, and reads them."""

    key: bytes

    @classmethod
    def from_settings(cls, settings: Settings) -> "ApiTokens":
        """Return the tokens of a deployment."""
        return cls(derive_key(settings.console_key.get_secret_value(), "tokens"))

    def mint(
        self, name: str, roles: Collection[Role], portals: Collection[int] | None = None, *, ttl_s: int = MAX_TTL_S
    ) -> "MintedToken":
        """Return a token of `name`; `portals` None is all that this deployment serves."""
        now, own_name = int(time.time()), secrets.token_hex(8)
        claims: dict[str, object] = {
            "iss": ISSUER, "aud": AUDIENCE, "sub": name, "iat": now, "exp": now + min(ttl_s, MAX_TTL_S),
            "jti": own_name, "roles": sorted(roles),
        }  # fmt: skip
        if portals is not None:
            claims["portals"] = sorted(portals)
        return MintedToken(jwt.encode(claims, self.key, _ALGORITHM), own_name)

    def verify(self, token: str) -> Actor:
        """Return whose token it is.

        Raises:
            Problem: 401, it is none of ours, or its time is over.
        """
        if len(token) > _MAX_LENGTH:
            raise token_refused("The token is too long.")
        try:
            claims = jwt.decode(
                token, self.key, algorithms=[_ALGORITHM], audience=AUDIENCE, issuer=ISSUER, leeway=LEEWAY_S,
                options={"require": list(_REQUIRED_CLAIMS), "strict_aud": True},
            )  # fmt: skip
        except jwt.ExpiredSignatureError:
            raise token_refused("The token has expired; `spokes token` mints a new one.") from None
        except (jwt.PyJWTError, ValueError):
            raise token_refused("The token is none that this API takes.") from None
        return _actor_from_claims(claims)


def _actor_from_claims(claims: dict[str, object]) -> Actor:
    """Who the claims speak of; what is signed may still be nonsense."""
    name, roles, portals = claims["sub"], claims["roles"], claims.get("portals")
    issued, expires = claims["iat"], claims["exp"]
    if not (isinstance(issued, int) and isinstance(expires, int) and expires - issued <= MAX_TTL_S):
        raise token_refused("A token may live for an hour at most.")
    if not (isinstance(name, str) and name and isinstance(roles, list) and all(role in list(Role) for role in roles)):
        raise token_refused("The token says nothing of who it is, or of which role.")
    if portals is not None and not (isinstance(portals, list) and all(type(one) is int for one in portals)):
        raise token_refused("The token's portals are not numbers.")
    seen = None if portals is None else frozenset(portals)
    return Actor(name, frozenset(map(Role, roles)), seen, AuthMethod.TOKEN, str(claims["jti"]))


def token_refused(sentence: str) -> HttpProblem:
    """Return the answer to a token that is not believed."""
    return HttpProblem(401, "token_refused", sentence)


_REVOKED_TTL_S: Final = 3 * 3600  # tokens of an identity provider live for two hours at most, ours for one
_REVOKED_PREFIX: Final = "spokes:console:revoked:"


async def revoke(redis: Redis, token_id: str, record: AuditRecord) -> None:
    """Let a token open nothing any more; `told` goes into the audit with it.

    Raises:
        RedisError, OSError: Redis does not answer, and the token may still be good.
    """
    async with redis.pipeline(transaction=True) as pipeline:
        pipeline.set(_revoked_key(token_id), 1, ex=_REVOKED_TTL_S)
        append(pipeline, record)
        await pipeline.execute()


async def is_revoked(redis: Redis, token_id: str) -> bool:
    """Return whether a token was taken back.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    return bool(await redis.exists(_revoked_key(token_id)))


def _revoked_key(token_id: str) -> str:
    return _REVOKED_PREFIX + hashlib.sha256(token_id.encode(errors="replace")).hexdigest()
