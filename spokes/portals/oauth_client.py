"""HubSpot's OAuth endpoints for one app: one attempt per call, bounded in time and size, no redirects.

Client secret and tokens travel in the form's body or the Authorization header, never in a URL.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

import aiohttp
import orjson
from pydantic import SecretStr

from spokes.core.clock import now_ms
from spokes.core.json_reading.json_fields import read_id
from spokes.crm.transport.errors.error_mapping import parse_retry_after
from spokes.portals.oauth_errors import OAuthUnavailable, PortalRefused, PortalRevoked, TokenRequest, oauth_error
from spokes.portals.profile import AccountDetails
from spokes.portals.tokens import AppToken, Tokens, usable_lifetime_s

_MAX_BODY_BYTES: Final = 256 * 1024
_MAX_TOKEN_LENGTH: Final = 16_384  # characters; HubSpot advises room for more than 512
_TIMEOUT_S: Final = 20.0
_ACCOUNT_TIMEOUT_S: Final = 5.0  # a person waits for the page at the end of an install


@dataclass(frozen=True, slots=True)
class OAuthTokenInfo:
    """What HubSpot says about an access token; a token that is not active has no portal."""

    is_active: bool
    hub_id: int = 0
    user_id: int = 0
    app_id: int = 0
    client_id: str = ""
    scopes: tuple[str, ...] = ()
    expires_in_s: int = 0


class OAuthClient:
    """Calls HubSpot's OAuth endpoints; `close` ends its connections."""

    def __init__(
        self,
        *,
        client_id: str,
        client_secret: SecretStr,
        api_url: str,
        api_version: str = "2026-09",
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        """Call as the app `client_id`; `api_version` is a date version of HubSpot's API."""
        self._client_id = client_id
        self._client_secret = client_secret
        self._api_url = api_url.rstrip("/")
        self._version = api_version
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def exchange(self, code: str, redirect_uri: str, code_verifier: str) -> Tokens:
        """Exchange the code of an install for tokens.

        Raises:
            InstallRefused, AppRefused, OAuthUnavailable: see spokes.portals.oauth_errors.
        """
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        if code_verifier:
            form["code_verifier"] = code_verifier
        body = await self._post(f"/oauth/{self._version}/token", form, TokenRequest.INSTALL)
        return _tokens(body, refresh_token="")

    async def refresh(self, refresh_token: str, portal_id: int) -> Tokens:
        """Return new tokens of a portal. HubSpot may send a new refresh token: the earlier one may be invalid then.

        Raises:
            PortalRevoked, PortalRefused, AppRefused, OAuthUnavailable: see spokes.portals.oauth_errors.
        """
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        body = await self._post(f"/oauth/{self._version}/token", form, TokenRequest.REFRESH)
        tokens = _tokens(body, refresh_token=refresh_token)
        if tokens.hub_id not in {0, portal_id}:
            raise PortalRefused("other_hub", may_have_effect=True)
        return tokens

    async def app_token(self, scopes: Sequence[str]) -> AppToken:
        """Return a token of the app itself: it reaches the journal and its subscriptions only.

        Raises:
            AppRefused, OAuthUnavailable: see spokes.portals.oauth_errors.
        """
        form = {"grant_type": "client_credentials", "scope": " ".join(scopes)}
        body = await self._post(f"/oauth/{self._version}/token", form, TokenRequest.APP)
        token = body.get("access_token")
        if not _is_token(token):
            raise OAuthUnavailable("no_token_in_response")
        return AppToken(SecretStr(str(token)), usable_lifetime_s(read_id(body.get("expires_in"))))

    async def introspect(self, access_token: str) -> OAuthTokenInfo:
        """Return what HubSpot says about an access token.

        Raises:
            AppRefused, OAuthUnavailable: see spokes.portals.oauth_errors.
        """
        form = {"token": access_token, "token_type_hint": "access_token"}
        body = await self._post(f"/oauth/{self._version}/token/introspect", form, TokenRequest.APP)
        if body.get("active") is not True:
            return OAuthTokenInfo(is_active=False)
        scopes = body.get("scopes")
        names = scopes.split() if isinstance(scopes, str) else scopes if isinstance(scopes, list) else []
        return OAuthTokenInfo(
            is_active=True,
            hub_id=read_id(body.get("hub_id")) or 0,
            user_id=read_id(body.get("user_id")) or 0,
            app_id=read_id(body.get("app_id")) or 0,
            client_id=str(body.get("client_id") or ""),
            scopes=tuple(sorted({str(name) for name in names})),
            expires_in_s=read_id(body.get("expires_in")) or 0,
        )

    async def revoke(self, refresh_token: str) -> None:
        """Revoke a refresh token. Its access tokens work for up to 30 minutes more, and the app stays installed.

        Raises:
            AppRefused, OAuthUnavailable: see spokes.portals.oauth_errors.
        """
        form = {"token": refresh_token, "token_type_hint": "refresh_token"}
        await self._post(f"/oauth/{self._version}/token/revoke", form, TokenRequest.APP)

    async def uninstall(self, access_token: str) -> None:
        """Uninstall the app from the portal of an access token.

        Raises:
            PortalRevoked: HubSpot does not accept the token: the app is not installed any more.
            OAuthUnavailable: HubSpot cannot answer now.
        """
        path = f"/appinstalls/{self._version}/external-install"
        status, _, body = await self._send("DELETE", path, None, {"Authorization": f"Bearer {access_token}"})
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND}:
            raise PortalRevoked
        if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            raise OAuthUnavailable(str(body.get("category") or status))

    async def account(self, access_token: str) -> AccountDetails | None:
        """Return what HubSpot says about the account of an access token, None if it does not answer in time."""
        path = f"/account-info/{self._version}/details"
        try:
            async with asyncio.timeout(_ACCOUNT_TIMEOUT_S):
                status, _, body = await self._send("GET", path, None, {"Authorization": f"Bearer {access_token}"})
        except (OAuthUnavailable, TimeoutError):
            return None
        return AccountDetails.from_details(body) if status == HTTPStatus.OK else None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _post(self, path: str, form: Mapping[str, str], request: TokenRequest) -> dict[str, object]:
        secrets = {"client_id": self._client_id, "client_secret": self._client_secret.get_secret_value()}
        status, headers, body = await self._send("POST", path, {**form, **secrets}, {})
        if status == HTTPStatus.OK:
            return body
        raise oauth_error(status, body, retry_after_s=_retry_after_s(headers), request=request)

    async def _send(
        self, method: str, path: str, form: Mapping[str, str] | None, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], dict[str, object]]:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar())
        try:
            async with self._session.request(
                method,
                f"{self._api_url}{path}",
                data=form,
                headers={"Accept": "application/json", "User-Agent": "spokes", **headers},
                allow_redirects=False,
            ) as response:
                raw = await response.content.read(_MAX_BODY_BYTES + 1)
                while len(raw) <= _MAX_BODY_BYTES and (more := await response.content.read(_MAX_BODY_BYTES)):
                    raw += more
        except aiohttp.ClientConnectorError:  # nothing was sent
            raise OAuthUnavailable("connection", may_have_effect=False) from None
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            raise OAuthUnavailable("connection") from None
        if len(raw) > _MAX_BODY_BYTES:
            raise OAuthUnavailable("response_too_long")
        return response.status, response.headers, _json_object(raw)


def _json_object(raw: bytes) -> dict[str, object]:
    try:
        body = orjson.loads(raw) if raw.strip() else {}
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def _tokens(body: Mapping[str, object], *, refresh_token: str) -> Tokens:
    """Return the tokens of a response; without a refresh token in it, the earlier one stays valid.

    Raises:
        OAuthUnavailable: the response has no usable tokens.
    """
    access, refresh = body.get("access_token"), body.get("refresh_token") or refresh_token
    if not _is_token(access) or not _is_token(refresh):
        raise OAuthUnavailable("no_tokens_in_response")
    lifetime_s = usable_lifetime_s(read_id(body.get("expires_in")))
    return Tokens(
        SecretStr(str(access)),
        SecretStr(str(refresh)),
        now_ms() + lifetime_s * 1000,
        lifetime_s,
        read_id(body.get("hub_id")) or 0,
    )


def _is_token(value: object) -> bool:
    """Return whether a value can be sent in a header."""
    is_text = isinstance(value, str) and 0 < len(value) <= _MAX_TOKEN_LENGTH
    return is_text and all("!" <= character <= "~" for character in str(value))


def _retry_after_s(headers: Mapping[str, str]) -> float:
    """Return the wait of a Retry-After header in seconds, 0 without one."""
    return parse_retry_after(headers.get("Retry-After"), datetime.now(UTC)) or 0.0
