"""API tokens: mint, verify, revoke. HS256 only, for one audience, valid for an hour at most.

They are signed with a key derived from CONSOLE_KEY, so changing CONSOLE_KEY invalidates all of them; `revoke`
invalidates one.
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
from spokes.core.redis.key_names import console_keys
from spokes.core.settings import Settings

MAX_TTL_S: Final = 3600
ISSUER: Final = "spokes"
AUDIENCE: Final = "spokes-api"
_ALGORITHM: Final = "HS256"
LEEWAY_S: Final = 30  # for clocks that differ
_MAX_LENGTH: Final = 4096  # characters
_REQUIRED_CLAIMS: Final = ("iss", "aud", "exp", "iat", "sub", "jti", "roles")
_REVOKED_TTL_S: Final = 3 * 3600  # longer than any token is valid: a provider's two hours, ours one hour


class MintedToken(NamedTuple):
    """A new token, and the id by which it can be revoked."""

    token: str
    id: str


@dataclass(frozen=True, slots=True)
class ApiTokens:
    """Mints and verifies API tokens."""

    key: bytes

    @classmethod
    def from_settings(cls, settings: Settings) -> "ApiTokens":
        """Return an instance with the key derived from CONSOLE_KEY."""
        return cls(derive_key(settings.console_key.get_secret_value(), "tokens"))

    def mint(
        self, name: str, roles: Collection[Role], portals: Collection[int] | None = None, *, ttl_s: int = MAX_TTL_S
    ) -> MintedToken:
        """Return a token for `name`; `portals` None means all that this deployment serves."""
        now, token_id = int(time.time()), secrets.token_hex(8)
        claims: dict[str, object] = {
            "iss": ISSUER, "aud": AUDIENCE, "sub": name, "iat": now, "exp": now + min(ttl_s, MAX_TTL_S),
            "jti": token_id, "roles": sorted(roles),
        }  # fmt: skip
        if portals is not None:
            claims["portals"] = sorted(portals)
        return MintedToken(jwt.encode(claims, self.key, _ALGORITHM), token_id)

    def verify(self, token: str) -> Actor:
        """Return the actor of a token.

        Raises:
            HttpProblem: 401, the token is not ours or has expired.
        """
        if len(token) > _MAX_LENGTH:
            raise token_refused("The token is too long.")
        try:
            claims = jwt.decode(
                token, self.key, algorithms=[_ALGORITHM], audience=AUDIENCE, issuer=ISSUER, leeway=LEEWAY_S,
                options={"require": list(_REQUIRED_CLAIMS), "strict_aud": True},
            )  # fmt: skip
        except jwt.ExpiredSignatureError:
            raise token_refused("The token has expired. `spokes token mint` makes a new one.") from None
        except (jwt.PyJWTError, ValueError):
            raise token_refused("This API does not accept the token.") from None
        return _actor_from_claims(claims)


def _actor_from_claims(claims: dict[str, object]) -> Actor:
    """Return the actor of the claims; a valid signature does not prove that they are well formed."""
    name, roles, portals = claims["sub"], claims["roles"], claims.get("portals")
    issued, expires = claims["iat"], claims["exp"]
    if not (isinstance(issued, int) and isinstance(expires, int) and expires - issued <= MAX_TTL_S):
        raise token_refused("A token may be valid for an hour at most.")
    if not (isinstance(name, str) and name and isinstance(roles, list) and all(role in list(Role) for role in roles)):
        raise token_refused("The token lacks a name or a known role.")
    if portals is not None and not (isinstance(portals, list) and all(type(portal) is int for portal in portals)):
        raise token_refused("The token's portals are not numbers.")
    visible = None if portals is None else frozenset(portals)
    return Actor(name, frozenset(map(Role, roles)), visible, AuthMethod.TOKEN, str(claims["jti"]))


def token_refused(detail: str) -> HttpProblem:
    """Return the problem for a refused token."""
    return HttpProblem(401, "token_refused", detail)


async def revoke(redis: Redis, token_id: str, record: AuditRecord) -> None:
    """Revoke a token; `record` is added to the audit in the same transaction.

    Raises:
        RedisError, OSError: Redis does not answer; the token may still be valid.
    """
    async with redis.pipeline(transaction=True) as pipeline:
        pipeline.set(_revoked_key(token_id), 1, ex=_REVOKED_TTL_S)
        append(pipeline, record)
        await pipeline.execute()


async def is_revoked(redis: Redis, token_id: str) -> bool:
    """Return whether a token was revoked.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    return bool(await redis.exists(_revoked_key(token_id)))


def _revoked_key(token_id: str) -> str:
    return console_keys.console_revoked_token(hashlib.sha256(token_id.encode(errors="replace")).hexdigest())
