"""What a signed token of an identity provider says, and whom that makes here. Rule: its word is read, then judged.

Who a token names gets the roles that OIDC_ROLES gives to a value of OIDC_ROLES_CLAIM or to a verified e-mail address;
who gets none has none. The names of such people begin with `oidc:`, so none is taken for an account of ours.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import jwt

from spokes.console.accounts.actors import Actor, AuthMethod
from spokes.console.accounts.api_tokens import LEEWAY_S, token_refused
from spokes.console.accounts.policy import Role
from spokes.console.identity.provider import ALGORITHM, Provider
from spokes.core.settings import Settings

NAME_PREFIX: Final = "oidc:"
_MAX_NAME_LENGTH: Final = 200
_PORTAL_ID: Final = re.compile("[0-9]{1,18}")

Claims = Mapping[str, Any]


async def verify_token(
    provider: Provider, token: str, *, audience: str, max_ttl_s: int, required: Iterable[str]
) -> Claims:
    """Return the claims of a token that the provider has signed for `audience`, for `longest_s` seconds at most.

    Raises:
        Problem: 401, it is none of the provider's for us; 503, its keys cannot be had.
    """
    try:
        name = jwt.get_unverified_header(token).get("kid")
        key = await provider.key(name) if isinstance(name, str) else None
        if key is None:
            raise token_refused("The token names no key that the identity provider has.")
        claims = jwt.decode(
            token, key, algorithms=[ALGORITHM], audience=audience, issuer=provider.settings.oidc_issuer,
            leeway=LEEWAY_S,
            options={"require": ["iss", "aud", "exp", "iat", "sub", *required], "enforce_minimum_key_length": True},
        )  # fmt: skip
    except jwt.ExpiredSignatureError:
        raise token_refused("The token has expired; ask the identity provider for a new one.") from None
    except (jwt.PyJWTError, ValueError):
        raise token_refused("The token is none that the identity provider has made for us.") from None
    if int(claims["exp"]) - int(claims["iat"]) > max_ttl_s:  # PyJWT has seen that both are numbers
        raise token_refused("The token lives too long; let the identity provider make shorter ones.")
    return claims


def actor_from_claims(claims: Claims, settings: Settings) -> Actor:
    """Return whom the claims make here."""
    email = claims["email"] if claims.get("email_verified") is True and isinstance(claims.get("email"), str) else ""
    name = NAME_PREFIX + (email or str(claims["sub"]))[:_MAX_NAME_LENGTH]
    held = {*claim_values(claim_at(claims, settings.oidc_roles_claim)), *([email.lower()] if email else [])}
    roles = frozenset(
        Role(role) for of, role in settings.oidc_roles if of in held or ("@" in of and of.lower() in held)
    )
    portals = None
    if settings.oidc_portals_claim:
        told = claim_values(claim_at(claims, settings.oidc_portals_claim))
        portals = frozenset(int(portal) for portal in told if _PORTAL_ID.fullmatch(portal))
    return Actor(name, roles, portals, AuthMethod.PROVIDER, str(claims.get("jti", "")))


def claim_at(claims: Claims, path: str) -> object:
    """Return the claim of that very name, or what a name with dots leads to; None where there is nothing."""
    if path in claims:
        return claims[path]
    found: object = claims
    for step in path.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def claim_values(value: object) -> tuple[str, ...]:
    """Return the words of a claim: a list's members, a text's words, a number."""
    match value:
        case str():
            return tuple(value.split())
        case bool():
            return ()
        case int():
            return (str(value),)
        case list():
            return tuple(str(one) for one in value if isinstance(one, str | int) and not isinstance(one, bool))
    return ()
