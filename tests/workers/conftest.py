"""Fixture of worker tests: a worker's parts, connected to HubSpot's simulator."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from spokes.core.settings import Settings
from spokes.crm.services import CRM
from spokes.simulator.app import Simulator
from tests.workers.harness import Harness


@pytest.fixture
async def harness(environ: dict[str, str], redis: Redis, hubspot: Simulator) -> AsyncIterator[Harness]:
    settings = Settings.from_env({**environ, "HUBSPOT_API_URL": hubspot.url, "HANDLER_TIMEOUT_S": "0.4"})
    crm = await CRM.open(settings, redis)
    harness = Harness(settings, redis, crm)
    yield harness
    await harness.parts.close()
    await crm.close()
