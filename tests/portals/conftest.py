"""A store of portals in SQLite, a simulator with accounts that installed the app, and token services on both."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine
from spokes.core.clock import now_ms
from spokes.core.vault import Vault
from spokes.crm.transport.client import HubSpotClient
from spokes.portals.oauth_client import OAuthClient
from spokes.portals.store import InstalledPortal, PortalStore
from spokes.portals.token_service import TokenService
from spokes.portals.tokens import Tokens
from spokes.simulator.app import Simulator
from spokes.simulator.config import OAuthConfig, SimulatorConfig

KEY = "key-of-the-vault-that-is-long-enough"
SCOPES = ("oauth", "crm.objects.contacts.read")


@dataclass
class AppWorld:
    """An app, its portals at HubSpot and here, and token services as in several processes."""

    hub: Simulator
    store: PortalStore
    redis: Redis
    address: str  # of the database
    _services: list[tuple[TokenService, HubSpotClient]] = field(default_factory=list)

    async def install(self, portal_id: int, *, expires_in_s: float = 1800.0) -> InstalledPortal:
        """Install the app; the access token is stored as one that expires in `expires_in_s`."""
        self.hub.add_portal(portal_id)
        issued = self.hub.installs.install(portal_id, frozenset(SCOPES))
        tokens = Tokens(
            SecretStr(issued.access_token), SecretStr(issued.refresh_token), now_ms() + round(expires_in_s * 1000)
        )
        return await self.store.save_install(portal_id, tokens, SCOPES)

    async def service(self, *, refreshes_per_s: int = 100) -> TokenService:
        """Return the token service of one more process."""
        transport = HubSpotClient(api_url=self.hub.url, token="", timeout_s=5.0)
        oauth = OAuthClient(
            client_id=OAuthConfig().client_id,
            client_secret=SecretStr(self.hub.config.client_secret),
            api_url=self.hub.url,
            timeout_s=5.0,
        )
        service = TokenService(self.store, oauth, self.redis, transport.with_token, refreshes_per_s=refreshes_per_s)
        await service.directory.refresh()
        self._services.append((service, transport))
        return service

    def refreshes(self, portal_id: int) -> int:
        """Return how many refreshes HubSpot has granted for a portal."""
        return self.hub.installs.refreshes.get(portal_id, 0)

    async def portal(self, portal_id: int) -> InstalledPortal:
        """Return a portal that is stored."""
        portal = await self.store.get(portal_id)
        assert portal is not None
        return portal

    async def wait_until(self, condition: Callable[[], Awaitable[bool]], seconds: float = 90.0) -> None:
        """Wait until `condition` holds."""
        async with asyncio.timeout(seconds):
            while True:
                if await condition():
                    return
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        """Close the services."""
        for service, transport in self._services:
            await service.close()
            await transport.close()


@pytest.fixture
def oauth_config() -> OAuthConfig:
    return OAuthConfig()


@pytest.fixture
async def world(redis: Redis, tmp_path: Path, oauth_config: OAuthConfig) -> AsyncIterator[AppWorld]:
    address = f"sqlite+aiosqlite:///{tmp_path}/portals.sqlite"
    engine = open_engine(address)
    await schema.upgrade(engine)
    async with Simulator(SimulatorConfig(oauth=oauth_config)) as hub:
        app = AppWorld(hub, PortalStore(engine, Vault([KEY])), redis, address)
        yield app
        await app.close()
    await engine.dispose()
