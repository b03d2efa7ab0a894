"""The store of installed portals and the client of HubSpot's OAuth endpoints, as the settings describe them."""

from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.core.settings import Settings
from spokes.core.vault import Vault
from spokes.portals.oauth_client import OAuthClient
from spokes.portals.store import PortalStore


def portal_store(settings: Settings, engine: AsyncEngine) -> PortalStore:
    """Return the store on `engine`, which the caller closes."""
    return PortalStore(engine, Vault.from_settings(settings))


def oauth_client(settings: Settings) -> OAuthClient:
    """Return a client for the app of HUBSPOT_CLIENT_ID; the caller closes it."""
    return OAuthClient(
        client_id=settings.hubspot_client_id,
        client_secret=settings.hubspot_client_secret[0],
        api_url=settings.hubspot_api_url,
        api_version=settings.hubspot_api_version,
        timeout_s=settings.hubspot_timeout_s,
    )
