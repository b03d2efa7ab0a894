"""The page *Settings*, over real HTTP; HubSpot and the receiver are unreachable."""

import re
from collections.abc import AsyncIterator

import pytest
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis

from spokes.console.accounts.policy import Role
from spokes.core.redis.keys import REGISTRATIONS
from tests.support.console_visitor import KEY, Visitor, running_console, visible_text
from tests.support.deployment import KEY as AUDIT_KEY
from tests.support.deployment import SECRET, TOKEN

UNREACHABLE = "http://127.0.0.1:9"


@pytest.fixture
async def client(environ: dict[str, str], redis: Redis, migrated_store: None) -> AsyncIterator[TestClient]:
    """The console, which reaches neither HubSpot nor the receiver."""
    async with running_console(environ, PUBLIC_URL=UNREACHABLE, HUBSPOT_API_URL=UNREACHABLE) as client:
        yield client


@pytest.fixture
async def evicting_redis(redis: Redis) -> AsyncIterator[None]:
    """A Redis that deletes keys when its memory is full."""
    await redis.config_set("maxmemory-policy", "allkeys-lru")
    yield
    await redis.config_set("maxmemory-policy", "noeviction")


async def test_findings_handlers_and_masked_settings_are_shown(client: TestClient, evicting_redis: None) -> None:
    status, page = await (await Visitor.signed_in(client, Role.OPERATOR)).get("/console/settings")
    text = visible_text(page)
    assert status == 200
    assert "loses events" in text
    assert "contact.creation" in text
    assert "HUBSPOT_CLIENT_SECRET" in text
    assert [secret for secret in (SECRET, TOKEN, KEY, AUDIT_KEY) if secret in page] == []


async def test_registrations_without_event_are_shown_as_a_note(client: TestClient, redis: Redis) -> None:
    await redis.hset(REGISTRATIONS, "registered contact.creation", 1)  # type: ignore[misc]
    _, page = await (await Visitor.signed_in(client, Role.OPERATOR)).get("/console/settings")
    assert re.search(
        r"note subscriptions No event has matched these registrations .*contact\.creation", visible_text(page)
    )


async def test_findings_and_settings_are_hidden_from_an_operator_of_some_portals(client: TestClient) -> None:
    status, page = await (await Visitor.signed_in(client, Role.OPERATOR, portals=[9])).get("/console/settings")
    text = visible_text(page)
    assert (status, "contact.creation" in text) == (200, True)
    assert not any(part in text for part in ("HUBSPOT_CLIENT_SECRET", "loses events", "7001"))


async def test_viewer_is_refused(client: TestClient) -> None:
    assert (await (await Visitor.signed_in(client, Role.VIEWER)).get("/console/settings"))[0] == 403
