"""Fixtures of installs: HubSpot, the console of an app that customers install, and its store."""

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.sql import schema
from spokes.core.settings import Settings
from spokes.core.vault import Vault
from spokes.portals.store import PortalStore
from tests.support.console_visitor import KEY, running_console
from tests.support.deployment import SECRET
from tests.support.hubspot.oauth_hubspot import OAuthHubSpot

OWN = """
from spokes import Event, PortalSettings, Router, Tools
class Greeting(PortalSettings):
    greeting: str
    limit: int = 3
router = Router()
@router.register("contact.creation")
async def greet(event: Event, tools: Tools) -> None:
    tools.portal.settings(Greeting)
"""


class Customer:
    """A browser that installs the app step by step and keeps cookies."""

    def __init__(self, client: TestClient) -> None:
        self.client, self.cookies = client, {}

    async def get(self, path: str) -> ClientResponse:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        async with self.client.get(path, headers={"Cookie": cookie}, allow_redirects=False) as response:
            await response.read()
        self.cookies |= {name: morsel.value for name, morsel in response.cookies.items()}
        return response

    async def authorize(self, path: str = "/oauth/install") -> str:
        """Start an install and consent at HubSpot; return the path of the callback."""
        start = await self.get(path)
        assert start.status == 303, await start.text()
        async with self.client.session.get(start.headers["Location"], allow_redirects=False) as response:
            target = urlsplit(response.headers["Location"])
        return f"{target.path}?{target.query}"

    async def install(self, path: str = "/oauth/install") -> ClientResponse:
        return await self.get(await self.authorize(path))


@pytest.fixture
async def hubspot() -> AsyncIterator[OAuthHubSpot]:
    """A running HubSpot."""
    hubspot = OAuthHubSpot(SECRET)
    async with hubspot.server:
        yield hubspot


@pytest.fixture
async def oauth_environ(environ: dict[str, str], hubspot: OAuthHubSpot) -> dict[str, str]:
    """The settings of the deployment."""
    return {**environ, **hubspot.environ()}


@pytest.fixture
async def store(oauth_environ: dict[str, str], sqlite_engine: AsyncEngine) -> PortalStore:
    """The migrated store of the deployment."""
    await schema.upgrade(sqlite_engine)
    return PortalStore(sqlite_engine, Vault.from_settings(Settings.from_env({**oauth_environ, "CONSOLE_KEY": KEY})))


@pytest.fixture
async def client(oauth_environ: dict[str, str], redis: Redis, store: PortalStore) -> AsyncIterator[TestClient]:
    """A client of the console."""
    async with running_console(oauth_environ) as client:
        yield client


@pytest.fixture
def customer(client: TestClient) -> Customer:
    """A customer's browser."""
    return Customer(client)


@pytest.fixture
def own_environ(
    oauth_environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """The settings of a deployment whose handlers have settings of their own."""
    package = tmp_path / "own_handlers"
    package.mkdir()
    (package / "__init__.py").write_text("from spokes import Router\nfrom own_handlers import contacts\n"
                                         "ROUTER = Router(contacts.router)\n")  # fmt: skip
    (package / "contacts.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield {**oauth_environ, "HANDLERS": "own_handlers", "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    for name in ("own_handlers", "own_handlers.contacts"):
        sys.modules.pop(name, None)
