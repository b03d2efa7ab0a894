"""Fixtures of the tests of spokes.intake."""

import pytest
from redis.asyncio import Redis

from spokes.intake.admission import Admission

DEDUPE_TTL_S = 48 * 3600


@pytest.fixture
async def admission(redis: Redis) -> Admission:
    """Admission into the empty Valkey."""
    return Admission(redis, dedupe_ttl_s=DEDUPE_TTL_S)
