"""Login by OpenID Connect's authorization code flow with PKCE.

A callback is accepted only in the browser that started the login. State, nonce and PKCE verifier are in a signed cookie
that expires after ten minutes, so an unfinished login leaves nothing to clean up. The cookie holds no target address:
after a login the browser always goes to the console.
"""

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import quote_plus, urlencode

import aiohttp
import jwt

from spokes.console.accounts.api_tokens import token_refused
from spokes.console.identity.claims import Claims, verify_token
from spokes.console.identity.http_client import provider_unavailable
from spokes.console.identity.provider import Discovery, Provider
from spokes.core.masking import derive_key
from spokes.core.settings import Settings

LOGIN_TTL_S: Final = 600
CALLBACK: Final = "/console/oidc/callback"
_AUDIENCE: Final = "spokes-oidc-login"
_ALGORITHM: Final = "HS256"
_MAX_TTL_S: Final = 24 * 3600  # of the ID token, which is verified once, immediately
_BASIC: Final = "client_secret_basic"


class LoginStart(NamedTuple):
    """The provider's login URL, and the value of the login cookie."""

    url: str
    cookie: str


async def start_login(provider: Provider) -> LoginStart:
    """Start a login.

    Raises:
        HttpProblem: 503, the provider does not answer or offers no authorization code flow.
    """
    settings, discovery = provider.settings, await _discovery(provider)
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    parameters = {
        "response_type": "code", "client_id": settings.oidc_client_id, "redirect_uri": _callback_url(settings),
        "scope": settings.oidc_scopes, "state": state, "nonce": nonce, "code_challenge": _code_challenge(verifier),
        "code_challenge_method": "S256",
    }  # fmt: skip
    expires_at = int(time.time()) + LOGIN_TTL_S
    login = {"aud": _AUDIENCE, "exp": expires_at, "state": state, "nonce": nonce, "verifier": verifier}
    separator = "&" if "?" in discovery.authorization_endpoint else "?"
    url = f"{discovery.authorization_endpoint}{separator}{urlencode(parameters)}"
    return LoginStart(url, jwt.encode(login, _signing_key(settings), _ALGORITHM))


async def finish_login(provider: Provider, cookie: str, query: Mapping[str, str]) -> Claims:
    """Return the verified claims of the person; `query` is that of the callback URL.

    Raises:
        HttpProblem: 401, the login failed or was not started by this browser; 503, the provider does not answer.
    """
    login = _read_cookie(provider.settings, cookie)
    if login is None or not _equal(query.get("state", ""), login["state"]):
        raise token_refused("This login was not started in this browser, or more than ten minutes ago. Start again.")
    discovery = await _discovery(provider)
    issuer = query.get("iss")
    if issuer != discovery.issuer and (issuer is not None or discovery.authorization_response_iss_parameter_supported):
        raise token_refused("The response is from another identity provider.")
    if not (code := query.get("code")):
        raise token_refused("The identity provider did not log you in.")
    claims = await verify_token(
        provider, await _redeem_code(provider, discovery, code, login["verifier"]),
        audience=provider.settings.oidc_client_id, max_ttl_s=_MAX_TTL_S, required=("nonce",),
    )  # fmt: skip
    audience, party = claims["aud"], claims.get("azp", provider.settings.oidc_client_id)
    if not _equal(str(claims["nonce"]), login["nonce"]):
        raise token_refused("The ID token belongs to another login.")
    if party != provider.settings.oidc_client_id or (isinstance(audience, list) and audience != [party]):
        raise token_refused("The ID token is also issued for other clients.")
    return claims


async def _redeem_code(provider: Provider, discovery: Discovery, code: str, verifier: str) -> str:
    """Return the ID token for an authorization code.

    Raises:
        HttpProblem: 401, the provider refuses the code; 503, it does not answer.
    """
    settings = provider.settings
    form = {
        "grant_type": "authorization_code", "code": code, "redirect_uri": _callback_url(settings),
        "code_verifier": verifier, "client_id": settings.oidc_client_id,
    }  # fmt: skip
    authorization = ""
    if secret := settings.oidc_client_secret.get_secret_value():
        if _BASIC in discovery.token_endpoint_auth_methods_supported:
            # RFC 6749, 2.3.1: both are form-encoded first.
            authorization = aiohttp.encode_basic_auth(quote_plus(settings.oidc_client_id), quote_plus(secret))
        else:
            form["client_secret"] = secret
    token = (await provider.client.post_form(discovery.token_endpoint, form, authorization)).get("id_token")
    if not isinstance(token, str):
        raise token_refused("The identity provider did not log you in.")
    return token


async def _discovery(provider: Provider) -> Discovery:
    discovery = await provider.discovery()
    if not (discovery.authorization_endpoint and discovery.token_endpoint):
        raise provider_unavailable()
    return discovery


def _read_cookie(settings: Settings, cookie: str) -> dict[str, str] | None:
    try:
        return jwt.decode(
            cookie, _signing_key(settings), algorithms=[_ALGORITHM], audience=_AUDIENCE,
            options={"require": ["aud", "exp", "state", "nonce", "verifier"]},
        )  # fmt: skip
    except (jwt.PyJWTError, ValueError):
        return None


def _equal(actual: str, expected: str) -> bool:
    return hmac.compare_digest(actual.encode(errors="replace"), expected.encode())


def _signing_key(settings: Settings) -> bytes:
    return derive_key(settings.console_key.get_secret_value(), "oidc")


def _callback_url(settings: Settings) -> str:
    return settings.public_url.rstrip("/") + CALLBACK


def _code_challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
