"""The identity provider's discovery document and signing keys. Only RSA keys for signing are used.

PyJWT's own client fetches keys with urllib, which would block the event loop or occupy threads. Here aiohttp fetches
them and PyJWT parses them.
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
    """The fields we use of OpenID Connect's discovery document."""

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
        """Fetch with `client`, which the caller closes."""
        self.settings = settings
        self.client = client
        self._discovery = CachedValue(self._fetch_discovery, fresh_s=_CACHE_S)
        self._keys = CachedValue(self._fetch_keys, fresh_s=_CACHE_S)

    @classmethod
    def from_settings(cls, settings: Settings, client: ProviderClient) -> Self | None:
        """Return the provider of OIDC_ISSUER, None without one."""
        return cls(settings, client) if settings.oidc_issuer else None

    async def discovery(self) -> Discovery:
        """Return the discovery document.

        Raises:
            HttpProblem: 503, the provider does not answer, or the document names another issuer.
        """
        return await self._discovery.get()

    async def keys(self) -> SigningKeys:
        """Return the signing keys by key id (`kid`).

        Raises:
            HttpProblem: 503, they cannot be fetched.
        """
        return await self._keys.get()

    async def key(self, key_id: str) -> jwt.PyJWK | None:
        """Return the key of that id, or None if the provider has none; new keys are fetched within 30 s.

        Raises:
            HttpProblem: 503, the keys cannot be fetched.
        """
        keys = await self.keys()
        if key_id not in keys:
            keys = await self._keys.get(other_than=keys)
        return keys.get(key_id)

    async def _fetch_discovery(self) -> Discovery:
        issuer = self.settings.oidc_issuer
        try:
            document = Discovery.model_validate(await self.client.get_json(issuer.rstrip("/") + _WELL_KNOWN))
        except ValidationError:
            raise provider_unavailable() from None
        endpoints = (document.jwks_uri, document.authorization_endpoint, document.token_endpoint)
        if document.issuer != issuer or not all(is_confidential_url(url) for url in endpoints if url):
            raise provider_unavailable()
        return document

    async def _fetch_keys(self) -> SigningKeys:
        keys = (await self.client.get_json((await self.discovery()).jwks_uri)).get("keys")
        if not isinstance(keys, list):
            raise provider_unavailable()
        return usable_keys(keys)


def usable_keys(keys: Iterable[Any]) -> SigningKeys:
    """Return the signing keys by id: RSA, not for encryption only, not for another algorithm."""
    usable = {}
    for key in keys:
        if (
            isinstance(key, dict)
            and key.get("kty") == "RSA"
            and key.get("use", "sig") == "sig"
            and key.get("alg", ALGORITHM) == ALGORITHM
            and isinstance(key_id := key.get("kid"), str)
        ):
            try:
                usable[key_id] = jwt.PyJWK(key, ALGORITHM)
            except (jwt.PyJWTError, ValueError, TypeError):
                continue  # one malformed key does not invalidate the others
    return usable
