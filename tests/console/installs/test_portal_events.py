"""An install and a disconnection queue `portal.installed` and `portal.uninstalled` for the handlers that register."""

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis

from spokes.console.installs.disconnecting import disconnect
from spokes.console.installs.oauth_parts import oauth_client
from spokes.core.settings import Settings
from spokes.intake.portal_events import PORTAL_INSTALLED, queue_portal_event
from spokes.portals.store import PortalStore
from spokes.privacy.redis_data import queued_deliveries
from tests.console.installs.conftest import Customer
from tests.console.installs.test_disconnecting import ADA
from tests.support.console_visitor import running_console
from tests.support.hubspot.oauth_hubspot import PORTAL, OAuthHubSpot

HANDLERS = """
from spokes import Event, Router, Tools
ROUTER = Router()
@ROUTER.register("portal.installed")
async def welcome(event: Event, tools: Tools) -> None: ...
@ROUTER.register("portal.uninstalled")
async def part(event: Event, tools: Tools) -> None: ...
"""


@pytest.fixture
def listening_environ(
    oauth_environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """The settings of a deployment whose handlers listen to installs."""
    (tmp_path / "listening_handlers.py").write_text(HANDLERS)
    monkeypatch.syspath_prepend(tmp_path)
    yield {**oauth_environ, "HANDLERS": "listening_handlers"}
    sys.modules.pop("listening_handlers", None)


@pytest.fixture
async def client(listening_environ: dict[str, str], redis: Redis, store: PortalStore) -> AsyncIterator[TestClient]:
    async with running_console(listening_environ) as client:
        yield client


async def queued(redis: Redis) -> list[tuple[str, int]]:
    """Return type and portal of every queued event."""
    deliveries = [delivery async for delivery in queued_deliveries(redis)]
    return [(entry.event.type, entry.event.portal_id) for delivery in deliveries for entry in delivery.entries]


async def test_install_and_disconnection_are_events(
    listening_environ: dict[str, str], redis: Redis, store: PortalStore, customer: Customer, hubspot: OAuthHubSpot
) -> None:
    assert (await customer.install()).status == 200
    assert await queued(redis) == [("portal.installed", PORTAL)]
    settings = Settings.from_env(listening_environ)
    oauth = oauth_client(settings)
    await disconnect(PORTAL, ADA, settings=settings, store=store, oauth=oauth, redis=redis)
    await oauth.close()
    assert sorted(await queued(redis)) == [("portal.installed", PORTAL), ("portal.uninstalled", PORTAL)]


async def test_same_event_is_queued_once(listening_environ: dict[str, str], redis: Redis) -> None:
    settings = Settings.from_env(listening_environ)
    for _ in range(2):
        assert await queue_portal_event(PORTAL_INSTALLED, PORTAL, occurred_at=5, settings=settings, redis=redis)
    assert len(await queued(redis)) == 1


async def test_nothing_is_queued_if_no_handler_listens(oauth_environ: dict[str, str], redis: Redis) -> None:
    settings = Settings.from_env(oauth_environ)
    assert not await queue_portal_event(PORTAL_INSTALLED, PORTAL, occurred_at=5, settings=settings, redis=redis)
    assert await queued(redis) == []
