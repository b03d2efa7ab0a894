"""Fixtures of the CRM tests: a simulated HubSpot, and the CRM services that call it."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from tests.support.hubspot.crm_world import CRMWorld, open_world


@pytest.fixture
async def world(redis: Redis) -> AsyncIterator[CRMWorld]:
    async with open_world(redis) as world:
        yield world
