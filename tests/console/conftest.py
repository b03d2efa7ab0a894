"""Fixtures of the console's tests: the console, its audit store, a simulated HubSpot, an identity provider."""

from collections.abc import AsyncIterator

import pytest
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.archiver import Archiver
from tests.support.console_visitor import audit_store, running_console
from tests.support.deployment import KEY
from tests.support.identity_provider import IdentityProvider


@pytest.fixture
async def idp() -> AsyncIterator[IdentityProvider]:
    """A running identity provider."""
    idp = IdentityProvider()
    async with idp.server:
        yield idp


@pytest.fixture
async def client(environ: dict[str, str], redis: Redis) -> AsyncIterator[TestClient]:
    """A client of the running console, whose audit store may have no tables."""
    async with running_console(environ) as client:
        yield client


@pytest.fixture
async def sqlite_engine(environ: dict[str, str]) -> AsyncIterator[AsyncEngine]:
    """The audit store that the running console reads."""
    async with audit_store(environ) as engine:
        yield engine


@pytest.fixture
async def migrated_store(redis: Redis, sqlite_engine: AsyncEngine) -> None:
    """Create the tables of the console's audit store."""
    await Archiver(redis, sqlite_engine, KEY).run_once()
