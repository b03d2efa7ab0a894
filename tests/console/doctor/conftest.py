from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from tests.console.doctor.breakages import Deployment, running_deployment


@pytest.fixture
async def deployment(environ: dict[str, str], redis: Redis) -> AsyncIterator[Deployment]:
    """A migrated deployment, whose parts a test breaks."""
    async with running_deployment(environ, redis) as deployment:
        await deployment.migrate()
        yield deployment
