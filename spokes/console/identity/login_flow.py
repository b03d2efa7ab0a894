"""Log people in by the authorization code flow. Rule: what comes back must belong to what this very browser began.

PKCE, state and nonce are carried by a cookie that we sign and that lives for ten minutes, so a login that nobody ends
leaves nothing behind. Where to go afterwards is not in it: it is always the console.
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
_MAX_TTL_S: Final = 24 * 3600  # of the proof of a login, which is read once and at once
_BASIC: Final = "client_secret_basic"


class LoginStart(NamedTuple):
    """Where to send the browser, and the cookie that it keeps meanwhile."""

    url: str
    cookie: str


async def start_login(provider: Provider) -> LoginStart:
    """Begin a login.

    Raises:
        Problem: 503, the provider does not answer, or logs nobody in.
    """
    settings, discovery = provider.settings, await _discovery(provider)
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    asked = {
        "response_type": "code", "client_id": settings.oidc_client_id, "redirect_uri": _callback_url(settings),
        "scope": settings.oidc_scopes, "state": state, "nonce": nonce, "code_challenge": _code_challenge(verifier),
        "code_challenge_method": "S256",
    }  # fmt: skip
    kept = {
        "aud": _AUDIENCE,
        "exp": int(time.time()) + LOGIN_TTL_S,
        "state": state,
        "nonce": nonce,
        "verifier": verifier,
    }
    separator = "&" if "?" in discovery.authorization_endpoint else "?"
    url = f"{discovery.authorization_endpoint}{separator}{urlencode(asked)}"
    return LoginStart(url, jwt.encode(kept, _signing_key(settings), _ALGORITHM))


async def finish_login(provider: Provider, cookie: str, query: Mapping[str, str]) -> Claims:
    """Return what the provider says of who has logged in; `answer` is the query it sent the browser back with.

    Raises:
        Problem: 401, nobody has logged in, or not in the login that this browser began; 503, the provider does not
            answer.
    """
    kept = _read_cookie(provider.settings, cookie)
    if kept is None or not _equal(query.get("state", ""), kept["state"]):
        raise token_refused("This login was not begun here, or more than ten minutes ago; begin again.")
    discovery = await _discovery(provider)
    named = query.get("iss")
    if named != discovery.issuer and (named is not None or discovery.authorization_response_iss_parameter_supported):
        raise token_refused("Another identity provider has answered.")
    if not (code := query.get("code")):
        raise token_refused("The identity provider did not log you in.")
    claims = await verify_token(
        provider, await _redeem_code(provider, discovery, code, kept["verifier"]),
        audience=provider.settings.oidc_client_id, max_ttl_s=_MAX_TTL_S, required=("nonce",),
    )  # fmt: skip
    audience, party = claims["aud"], claims.get("azp", provider.settings.oidc_client_id)
    if not _equal(str(claims["nonce"]), kept["nonce"]):
        raise token_refused("The identity provider's word is of another login.")
    if party != provider.settings.oidc_client_id or (isinstance(audience, list) and audience != [party]):
        raise token_refused("The identity provider's word is for others too.")
    return claims


async def _redeem_code(provider: Provider, discovery: Discovery, code: str, verifier: str) -> str:
    """Return the token that the code stands for.

    Raises:
        Problem: 401, it stands for none; 503, the provider does not answer.
    """
    settings = provider.settings
    form = {
        "grant_type": "authorization_code", "code": code, "redirect_uri": _callback_url(settings),
        "code_verifier": verifier, "client_id": settings.oidc_client_id,
    }  # fmt: skip
    authorization = ""
    if secret := settings.oidc_client_secret.get_secret_value():
        if _BASIC in discovery.token_endpoint_auth_methods_supported:
            authorization = aiohttp.encode_basic_auth(
                quote_plus(settings.oidc_client_id), quote_plus(secret)
            )  # RFC 6749, 2.3.1
        else:
            form["client_secret"] = secret
    token = (await provider.client.post_form(discovery.token_endpoint, form, authorization)).get("id_token")
    if not isinstance(token, str):
        raise token_refused("The identity provider did not log you in.")
    return token


async def _discovery(provider: Provider) -> Discovery:
    found = await provider.discovery()
    if not (found.authorization_endpoint and found.token_endpoint):
        raise provider_unavailable()
    return found


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
