"""An identity provider: what it says of itself, and the keys it signs with. Rule: RSA keys for signing, no others.

PyJWT's own client fetches keys with urllib, which would block the loop or fill threads; here they are fetched by
aiohttp, and PyJWT reads them.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Self

import jwt
from pydantic import BaseModel, ConfigDict, ValidationError

from spokes.console.identity.cached_value import Kept
from spokes.console.identity.http_client import Wire, unavailable
from spokes.core.settings import Settings, is_private

ALGORITHM: Final = "RS256"
_WELL_KNOWN: Final = "/.well-known/openid-configuration"
_FRESH_S: Final = 600.0
Keys = Mapping[str, jwt.PyJWK]


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

    def __init__(self, settings: Settings, wire: Wire) -> None:
        """Ask by `wire`, which stays the caller's to close."""
        self.settings = settings
        self.wire = wire
        self._discovery = Kept(self._discover, fresh_s=_FRESH_S)
        self._keys = Kept(self._fetch_keys, fresh_s=_FRESH_S)

    @classmethod
    def of(cls, settings: Settings, wire: Wire) -> Self | None:
        """Return the provider that `settings` name, None without one."""
        return cls(settings, wire) if settings.oidc_issuer else None

    async def discovery(self) -> Discovery:
        """Return what the provider says of itself.

        Raises:
            Problem: 503, it does not answer, or says that it is another.
        """
        return await self._discovery.get()

    async def keys(self) -> Keys:
        """Return the keys that it signs with, by name.

        Raises:
            Problem: 503, they cannot be had.
        """
        return await self._keys.get()

    async def key(self, name: str) -> jwt.PyJWK | None:
        """Return the key of that name (`kid`), None where the provider has none; new keys are seen within 30 s.

        Raises:
            Problem: 503, the keys cannot be had.
        """
        keys = await self.keys()
        if name not in keys:
            keys = await self._keys.get(newer_than=keys)
        return keys.get(name)

    async def _discover(self) -> Discovery:
        issuer = self.settings.oidc_issuer
        try:
            found = Discovery.model_validate(await self.wire.get(issuer.rstrip("/") + _WELL_KNOWN))
        except ValidationError:
            raise unavailable() from None
        endpoints = (found.jwks_uri, found.authorization_endpoint, found.token_endpoint)
        if found.issuer != issuer or not all(is_private(url) for url in endpoints if url):
            raise unavailable()
        return found

    async def _fetch_keys(self) -> Keys:
        told = (await self.wire.get((await self.discovery()).jwks_uri)).get("keys")
        if not isinstance(told, list):
            raise unavailable()
        return usable(told)


def usable(keys: Iterable[Any]) -> Keys:
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
