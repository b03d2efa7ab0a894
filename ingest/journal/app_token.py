"""`CachedAppToken`: the access token of the app itself. It reads the journal and no CRM records.

A new token is asked for a minute before the old one expires, or when it is refused. While the client secret is rotated,
each of the secrets is tried.
"""

import time
from typing import Final

from ingest.journal.errors import JournalRefused, JournalUnavailable
from spokes.core.settings import Settings
from spokes.portals.oauth_client import OAuthClient
from spokes.portals.oauth_errors import OAuthError, OAuthUnavailable
from spokes.portals.tokens import AppToken

SCOPES: Final = ("developer.webhooks_journal.read",)
_RENEW_BEFORE_S: Final = 60.0


class CachedAppToken:
    """The token of one app; `close` ends its connections."""

    def __init__(self, settings: Settings) -> None:
        self._clients = [
            OAuthClient(
                client_id=settings.hubspot_client_id,
                client_secret=secret,
                api_url=settings.hubspot_api_url,
                api_version=settings.hubspot_api_version,
                timeout_s=settings.hubspot_timeout_s,
            )
            for secret in settings.hubspot_client_secret
        ]
        self._token = ""
        self._renew_at = 0.0  # monotonic

    async def get(self) -> str:
        """Return a token that HubSpot should accept.

        Raises:
            JournalRefused, JournalUnavailable: HubSpot gives none.
        """
        if not self._token or time.monotonic() >= self._renew_at:
            issued = await self._issue()
            self._token = issued.access_token.get_secret_value()
            self._renew_at = time.monotonic() + max(issued.lifetime_s - _RENEW_BEFORE_S, issued.lifetime_s / 2)
        return self._token

    def discard(self) -> None:
        """Ask for a new token the next time: HubSpot refused this one."""
        self._token = ""

    async def close(self) -> None:
        """Close the connections."""
        for client in self._clients:
            await client.close()

    async def _issue(self) -> AppToken:
        refusal = JournalRefused("no_client_secret")
        for client in self._clients:
            try:
                return await client.app_token(SCOPES)
            except OAuthUnavailable as error:
                raise JournalUnavailable(f"token:{error.code}", retry_after_s=error.retry_after_s) from None
            except OAuthError as error:
                refusal = JournalRefused(f"token:{error.code}")
        raise refusal
