"""The portals that installed the app, as a worker process uses them: store, token service and the portals' states."""

import asyncio
from dataclasses import dataclass
from typing import Final, Self

import structlog
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.sql.engine import open_engine
from spokes.core.settings import Settings
from spokes.core.telemetry.secret_ages import fingerprinter
from spokes.core.vault import Vault
from spokes.crm.transport.client import HubSpotClient
from spokes.portals.directory import PortalDirectory
from spokes.portals.oauth_client import OAuthClient
from spokes.portals.store import PortalStore
from spokes.portals.token_service import TokenService

_LOAD_RETRY_S: Final = 2.0
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class InstalledPortals:
    """What a worker opens if HUBSPOT_CLIENT_ID is set."""

    settings: Settings
    redis: Redis
    engine: AsyncEngine
    store: PortalStore
    directory: PortalDirectory

    @classmethod
    def open(cls, settings: Settings, redis: Redis) -> Self | None:
        """Return the portals of this deployment, None if customers cannot install its app."""
        if not settings.hubspot_client_id:
            return None
        engine = open_engine(settings.database_address)
        store = PortalStore(engine, Vault.from_settings(settings))
        return cls(settings, redis, engine, store, PortalDirectory(store, settings.portal_ids))

    def credentials(self, client: HubSpotClient) -> TokenService:
        """Return the credentials of the portals; their clients share the connections of `client`."""
        oauth = OAuthClient(
            client_id=self.settings.hubspot_client_id,
            client_secret=self.settings.hubspot_client_secret[0],
            api_url=self.settings.hubspot_api_url,
            api_version=self.settings.hubspot_api_version,
            timeout_s=self.settings.hubspot_timeout_s,
        )
        return TokenService(
            self.store,
            oauth,
            self.redis,
            client.with_token,
            refreshes_per_s=self.settings.token_refreshes_per_s,
            directory=self.directory,
            fingerprint=fingerprinter(self.settings),
        )

    async def load(self) -> None:
        """Wait until the portals are read: until then, no job may be claimed."""
        await self.directory.refresh()
        if not self.directory.is_loaded:
            log.warning("portals_unknown", advice="The audit store does not answer; no event is claimed until it does.")
        while not self.directory.is_loaded:
            await asyncio.sleep(_LOAD_RETRY_S)
            await self.directory.refresh()

    async def close(self) -> None:
        """Close the store's connections."""
        await self.engine.dispose()
