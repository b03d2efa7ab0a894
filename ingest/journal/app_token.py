"""`AppToken`: the access token of the app itself, by client credentials. It reads the journal and no CRM records.

HubSpot gives no refresh token: a new token is asked for, a minute before the old one expires or when it is refused.
While the client secret is rotated, each of the secrets is tried.
"""

import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

import aiohttp
import orjson

from ingest.journal.errors import JournalRefused, JournalUnavailable
from spokes.core.json_fields import read_id
from spokes.core.settings import Settings
from spokes.crm.transport.error_mapping import parse_retry_after
from spokes.portals.oauth_errors import OAuthUnavailable, oauth_error

SCOPES: Final = ("developer.webhooks_journal.read",)
_RENEW_BEFORE_S: Final = 60.0
_DEFAULT_LIFETIME_S: Final = 1800
_MAX_BODY_BYTES: Final = 256 * 1024


class AppToken:
    """The token of one app; `session` is the caller's to close."""

    def __init__(self, settings: Settings, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._url = f"{settings.hubspot_api_url.rstrip('/')}/oauth/{settings.hubspot_api_version}/token"
        self._client_id = settings.hubspot_client_id
        self._secrets = settings.hubspot_client_secret
        self._token = ""
        self._renew_at = 0.0  # monotonic

    async def get(self) -> str:
        """Return a token that HubSpot should accept.

        Raises:
            JournalRefused, JournalUnavailable: HubSpot gives none.
        """
        if not self._token or time.monotonic() >= self._renew_at:
            await self._renew()
        return self._token

    def discard(self) -> None:
        """Ask for a new token the next time: HubSpot refused this one."""
        self._token = ""

    async def _renew(self) -> None:
        refusal = JournalRefused("no_client_secret")
        for secret in self._secrets:
            try:
                body = await self._request(secret.get_secret_value())
            except JournalRefused as error:
                refusal = error
                continue
            token = body.get("access_token")
            if not isinstance(token, str) or not token or not all("!" <= character <= "~" for character in token):
                raise JournalUnavailable("no_token_in_response")
            lifetime_s = read_id(body.get("expires_in")) or _DEFAULT_LIFETIME_S
            self._token = token
            self._renew_at = time.monotonic() + max(lifetime_s - _RENEW_BEFORE_S, lifetime_s / 2)
            return
        raise refusal

    async def _request(self, secret: str) -> dict[str, object]:
        form = {
            "grant_type": "client_credentials",
            "client_id": self._client_id,
            "client_secret": secret,
            "scope": " ".join(SCOPES),
        }
        try:
            async with self._session.post(self._url, data=form, allow_redirects=False) as response:
                raw = await response.content.read(_MAX_BODY_BYTES)
                while len(raw) < _MAX_BODY_BYTES and (more := await response.content.read(_MAX_BODY_BYTES)):
                    raw += more
                status, wait = response.status, response.headers.get("Retry-After")
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            raise JournalUnavailable("connection") from None
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            body = {}
        body = body if isinstance(body, dict) else {}
        if status == HTTPStatus.OK:
            return body
        wait_s = parse_retry_after(wait, datetime.now(UTC)) or 0.0
        error = oauth_error(status, body, retry_after_s=wait_s, is_refresh=True)
        if isinstance(error, OAuthUnavailable):
            raise JournalUnavailable(f"token:{error.code}", retry_after_s=error.retry_after_s)
        raise JournalRefused(f"token:{error.code}")
