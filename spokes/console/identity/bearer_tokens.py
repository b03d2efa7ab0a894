"""Whose bearer token it is. Rule: the issuer that a token names decides whose keys, and so which algorithm, judge it.

Tokens of ours are HS256 with our key, those of an identity provider RS256 with its keys; a key of one is never tried
on the other, so nobody can pass a public key off as a secret.
"""

from typing import Final

import jwt

from spokes.console.accounts.actors import Actor
from spokes.console.accounts.api_tokens import ApiTokens, token_refused
from spokes.console.identity.claims import actor_from_claims, verify_token
from spokes.console.identity.provider import Provider
from spokes.core.settings import Settings

_MAX_LENGTH: Final = 8192  # characters; a provider may name many groups
_MAX_TTL_S: Final = 7200  # Entra ID makes tokens of 60 to 90 minutes


async def verify_bearer_token(token: str, settings: Settings, provider: Provider | None) -> Actor:
    """Return whose token it is.

    Raises:
        Problem: 401, it is nobody's; 503, the keys of the identity provider cannot be had.
    """
    if len(token) > _MAX_LENGTH:
        raise token_refused("The token is too long.")
    if provider is not None and settings.oidc_audience and _unverified_issuer(token) == settings.oidc_issuer:
        claims = await verify_token(provider, token, audience=settings.oidc_audience, max_ttl_s=_MAX_TTL_S, required=())
        return actor_from_claims(claims, settings)
    return ApiTokens.from_settings(settings).verify(token)


def _unverified_issuer(token: str) -> object:
    """Return who made the token by its own word, before anything of it is believed."""
    try:
        return jwt.decode(token, options={"verify_signature": False}).get("iss")
    except (jwt.PyJWTError, ValueError):
        return None
