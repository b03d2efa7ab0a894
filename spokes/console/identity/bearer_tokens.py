"""Verify bearer tokens: ours, or the identity provider's.

The issuer that a token names selects the keys and the algorithm. Our tokens are HS256 with our key, the provider's are
RS256 with its keys. Neither key is tried with the other algorithm: otherwise a token signed with
the provider's public key as an HMAC secret would be accepted.
"""

from typing import Final

import jwt

from spokes.console.accounts.actors import Actor
from spokes.console.accounts.api_tokens import ApiTokens, token_refused
from spokes.console.identity.claims import actor_from_claims, verify_token
from spokes.console.identity.provider import Provider
from spokes.core.settings import Settings

_MAX_LENGTH: Final = 8192  # characters; a provider may list many groups
_MAX_TTL_S: Final = 7200  # Entra ID issues tokens for 60 to 90 minutes


async def verify_bearer_token(token: str, settings: Settings, provider: Provider | None) -> Actor:
    """Return the actor of a token.

    Raises:
        HttpProblem: 401, the token is invalid; 503, the provider's keys cannot be fetched.
    """
    if len(token) > _MAX_LENGTH:
        raise token_refused("The token is too long.")
    if provider is not None and settings.oidc_audience and _unverified_issuer(token) == settings.oidc_issuer:
        claims = await verify_token(provider, token, audience=settings.oidc_audience, max_ttl_s=_MAX_TTL_S, required=())
        return actor_from_claims(claims, settings)
    return ApiTokens.from_settings(settings).verify(token)


def _unverified_issuer(token: str) -> object:
    """Return the `iss` claim without verifying the token."""
    try:
        return jwt.decode(token, options={"verify_signature": False}).get("iss")
    except (jwt.PyJWTError, ValueError):
        return None
