"""An identity provider: what it says of itself, and the keys it signs with. Rule: RSA keys for signing, no others.

PyJWT's own client fetches keys with urllib, which would block the loop or fill threads; here they are fetched by
aiohttp, and PyJWT reads them.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Self

import jwt
from pydantic import BaseModel, ConfigDict, ValidationError

from spokes.console.identity.cached_value import CachedValue
from spokes.console.identity.http_client import ProviderClient, provider_unavailable
from spokes.core.settings import Settings, is_confidential_url

ALGORITHM: Final = "RS256"
_WELL_KNOWN: Final = "/.well-known/openid-configuration"
_CACHE_S: Final = 600.0
SigningKeys = Mapping[str, jwt.PyJWK]


class Discovery(BaseModel):
    """What we need of OpenID Connect's discovery document."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    issuer: str
    jwks_uri: str
    authorization_endpoint: str = ""
    token_endpoint: str = ""
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class Provider:
    """The identity provider of a deployment."""

    def __init__(self, settings: Settings, client: ProviderClient) -> None:
        """Ask by `wire`, which stays the caller's to close."""
        self.settings = settings
        self.client = client
        self._discovery = CachedValue(self._fetch_discovery, fresh_s=_CACHE_S)
        self._keys = CachedValue(self._fetch_keys, fresh_s=_CACHE_S)

    @classmethod
    def from_settings(cls, settings: Settings, client: ProviderClient) -> Self | None:
        """Return the provider that `settings` name, None without one."""
        return cls(settings, client) if settings.oidc_issuer else None

    async def discovery(self) -> Discovery:
        """Return what the provider says of itself.

        Raises:
            Problem: 503, it does not answer, or says that it is another.
        """
        return await self._discovery.get()

    async def keys(self) -> SigningKeys:
        """Return the keys that it signs with, by name.

        Raises:
            Problem: 503, they cannot be had.
        """
        return await self._keys.get()

    async def key(self, key_id: str) -> jwt.PyJWK | None:
        """Return the key of that name (`kid`), None where the provider has none; new keys are seen within 30 s.

        Raises:
            Problem: 503, the keys cannot be had.
        """
        keys = await self.keys()
        if key_id not in keys:
            keys = await self._keys.get(other_than=keys)
        return keys.get(key_id)

    async def _fetch_discovery(self) -> Discovery:
        issuer = self.settings.oidc_issuer
        try:
            found = Discovery.model_validate(await self.client.get_json(issuer.rstrip("/") + _WELL_KNOWN))
        except ValidationError:
            raise provider_unavailable() from None
        endpoints = (found.jwks_uri, found.authorization_endpoint, found.token_endpoint)
        if found.issuer != issuer or not all(is_confidential_url(url) for url in endpoints if url):
            raise provider_unavailable()
        return found

    async def _fetch_keys(self) -> SigningKeys:
        told = (await self.client.get_json((await self.discovery()).jwks_uri)).get("keys")
        if not isinstance(told, list):
            raise provider_unavailable()
        return usable_keys(told)


def usable_keys(keys: Iterable[Any]) -> SigningKeys:
    """Return the keys by name that may sign: RSA, for signatures, for our algorithm or for none in particular."""
    found = {}
    for key in keys:
        if (
            isinstance(key, dict)
            and key.get("kty") == "RSA"
            and key.get("use", "sig") == "sig"
            and key.get("alg", ALGORITHM) == ALGORITHM
            and isinstance(name := key.get("kid"), str)
        ):
            try:
                found[name] = jwt.PyJWK(key, ALGORITHM)
            except (jwt.PyJWTError, ValueError, TypeError):
                continue  # one key that nobody can read takes none of the others away
    return found
