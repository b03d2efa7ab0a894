"""Can people and programs be known by the identity provider. Rule: nothing here loses an event, so all are warnings."""

from collections.abc import Iterator
from typing import Final

from spokes.console.doctor.findings import Finding, ok, warning
from spokes.console.identity.http_client import ProviderClient
from spokes.console.identity.provider import Discovery, Provider, SigningKeys
from spokes.core.errors import HttpProblem
from spokes.core.settings import Settings

TOPIC: Final = "identity provider"


async def check_identity_provider(settings: Settings) -> list[Finding]:
    """Ask it what it says of itself, and for its keys."""
    wire = ProviderClient()
    try:
        if (provider := Provider.from_settings(settings, wire)) is None:
            return []
        return [*assess_provider(settings, await provider.discovery(), await provider.keys())]
    except HttpProblem:
        told = (
            f"{settings.oidc_issuer} does not answer as it should: under /.well-known/openid-configuration it must say "
            "that it is this very issuer, to the last slash, and name its keys, over https."
        )
        return [warning(TOPIC, told)]
    finally:
        await wire.close()


def assess_provider(settings: Settings, discovery: Discovery, keys: SigningKeys) -> Iterator[Finding]:
    """Judge what it has answered."""
    if not keys:
        yield warning(TOPIC, "It has no key that signs with RS256, so none of its tokens is believed.")
    elif settings.oidc_audience or settings.oidc_client_id:
        yield ok(TOPIC, f"{settings.oidc_issuer} answers, and signs with one of {len(keys)} keys.", keys=len(keys))
    if settings.oidc_client_id and not (discovery.authorization_endpoint and discovery.token_endpoint):
        yield warning(TOPIC, "It logs nobody in: it names no authorization_endpoint, or no token_endpoint.")
    if not (settings.oidc_audience or settings.oidc_client_id):
        yield warning(
            TOPIC, "OIDC_ISSUER alone does nothing: OIDC_CLIENT_ID is for people, OIDC_AUDIENCE for programs."
        )
