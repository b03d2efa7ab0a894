"""Fixtures of the tests of the queries."""

import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.archiver import Archiver
from tests.support.deployment import KEY


@pytest.fixture
async def store(redis: Redis, engine: AsyncEngine) -> AsyncEngine:
    """An empty audit store with its tables, in both databases."""
    await Archiver(redis, engine, KEY).run_once()
    return engine
