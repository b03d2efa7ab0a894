"""Fixtures of the page tests."""

import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.archiver import Archiver
from tests.support.deployment import KEY


@pytest.fixture
async def migrated_store(redis: Redis, sqlite_engine: AsyncEngine) -> None:
    """Create the tables of the console's audit store."""
    await Archiver(redis, sqlite_engine, KEY).run_once()
