"""Fixtures of the tests of gaps: a ledger in SQLite and in PostgreSQL."""

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.direct_records import DirectRecords
from spokes.audit.sql import schema
from spokes.gaps.ledger import GapLedger
from tests.support.deployment import KEY


@pytest.fixture
async def ledger(engine: AsyncEngine) -> GapLedger:
    await schema.upgrade(engine)
    return GapLedger(engine, DirectRecords(KEY, 1000))
