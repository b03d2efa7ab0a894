"""Verify tokens of the identity provider and map their claims to an actor.

OIDC_ROLES gives roles to values of OIDC_ROLES_CLAIM and to verified e-mail addresses; without a match an actor has no
role. Names of such actors begin with `oidc:`, so that none equals the name of a local account.
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
    """Return the claims of a token that the provider signed for `audience`, valid for at most `max_ttl_s` seconds.

    Raises:
        HttpProblem: 401, the token is invalid or not for `audience`; 503, the provider's keys cannot be fetched.
    """
    try:
        key_id = jwt.get_unverified_header(token).get("kid")
        key = await provider.key(key_id) if isinstance(key_id, str) else None
        if key is None:
            raise token_refused("The token names no key of the identity provider.")
        claims = jwt.decode(
            token, key, algorithms=[ALGORITHM], audience=audience, issuer=provider.settings.oidc_issuer,
            leeway=LEEWAY_S,
            options={"require": ["iss", "aud", "exp", "iat", "sub", *required], "enforce_minimum_key_length": True},
        )  # fmt: skip
    except jwt.ExpiredSignatureError:
        raise token_refused("The token has expired. Get a new one from the identity provider.") from None
    except (jwt.PyJWTError, ValueError):
        raise token_refused("The identity provider did not issue this token for us.") from None
    if int(claims["exp"]) - int(claims["iat"]) > max_ttl_s:  # PyJWT has checked that both are numbers
        raise token_refused("The token is valid for too long. Shorten the token lifetime at the identity provider.")
    return claims


def actor_from_claims(claims: Claims, settings: Settings) -> Actor:
    """Return the actor for these claims: name, roles and portals."""
    email = claims["email"] if claims.get("email_verified") is True and isinstance(claims.get("email"), str) else ""
    name = NAME_PREFIX + (email or str(claims["sub"]))[:_MAX_NAME_LENGTH]
    values = {*claim_values(claim_at(claims, settings.oidc_roles_claim)), *([email.lower()] if email else [])}
    roles = frozenset(
        Role(role)
        for value, role in settings.oidc_roles
        if value in values or ("@" in value and value.lower() in values)
    )
    portals = None
    if settings.oidc_portals_claim:
        portal_ids = claim_values(claim_at(claims, settings.oidc_portals_claim))
        portals = frozenset(int(portal) for portal in portal_ids if _PORTAL_ID.fullmatch(portal))
    return Actor(name, roles, portals, AuthMethod.PROVIDER, str(claims.get("jti", "")))


def claim_at(claims: Claims, path: str) -> object:
    """Return the claim of that name, or the nested claim if the name is a dotted path; None if absent."""
    if path in claims:
        return claims[path]
    claim: object = claims
    for step in path.split("."):
        claim = claim.get(step) if isinstance(claim, Mapping) else None
    return claim


def claim_values(value: object) -> tuple[str, ...]:
    """Return a claim's values as text: a list's elements, a text's words, or one number."""
    match value:
        case str():
            return tuple(value.split())
        case bool():
            return ()
        case int():
            return (str(value),)
        case list():
            return tuple(str(item) for item in value if isinstance(item, str | int) and not isinstance(item, bool))
    return ()
