"""Check the identity provider: its discovery document and its signing keys.

All problems are warnings: the identity provider concerns logins only, so no event is lost.
"""

from collections.abc import Iterator
from typing import Final

from spokes.console.doctor.findings import Finding, ok, warning
from spokes.console.identity.http_client import ProviderClient
from spokes.console.identity.provider import Discovery, Provider, SigningKeys
from spokes.core.errors import HttpProblem
from spokes.core.settings import Settings

TOPIC: Final = "identity provider"


async def check_identity_provider(settings: Settings) -> list[Finding]:
    """Fetch the discovery document and the signing keys; return no finding if OIDC_ISSUER is not set."""
    client = ProviderClient()
    try:
        if (provider := Provider.from_settings(settings, client)) is None:
            return []
        return [*assess_provider(settings, await provider.discovery(), await provider.keys())]
    except HttpProblem:
        return [
            warning(
                TOPIC,
                f"{settings.oidc_issuer} does not answer as an OpenID Connect provider, so nobody can log in with it. "
                "Its /.well-known/openid-configuration must be served over https, name exactly this issuer (a trailing "
                "slash counts) and link to its signing keys.",
            )
        ]
    finally:
        await client.close()


def assess_provider(settings: Settings, discovery: Discovery, keys: SigningKeys) -> Iterator[Finding]:
    """Compare what the provider publishes with how the settings use it."""
    if not keys:
        yield warning(
            TOPIC, "The provider publishes no RS256 signing key, so all of its tokens are rejected. Enable RS256 there."
        )
    elif settings.oidc_audience or settings.oidc_client_id:
        yield ok(TOPIC, f"{settings.oidc_issuer} answers; its signing keys: {len(keys)}.", keys=len(keys))
    if settings.oidc_client_id and not (discovery.authorization_endpoint and discovery.token_endpoint):
        yield warning(
            TOPIC,
            "The provider publishes no authorization_endpoint or no token_endpoint, so nobody can log in with it. "
            "Enable the authorization code flow there.",
        )
    if not (settings.oidc_audience or settings.oidc_client_id):
        yield warning(
            TOPIC,
            "OIDC_ISSUER alone has no effect. Set OIDC_CLIENT_ID to let people log in, OIDC_AUDIENCE to accept the "
            "tokens of programs.",
        )
