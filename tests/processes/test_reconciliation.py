"""The nightly reconciliation as running workers that are killed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.records import Action
from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import RECORDS
from spokes.backfill.reconciliation import plans_of
from spokes.core.settings import Settings
from spokes.gaps.gap import GapCause
from spokes.gaps.ledger import GapLedger
from spokes.routing import load_router
from spokes.simulator.app import Simulator
from tests.support.redis_server import own_server
from tests.support.running_processes import RunningProcesses
from tests.support.yesterday import create_contacts, hubspot_of_yesterday

pytestmark = pytest.mark.slow
CONTACTS = 3_000


@pytest.fixture
async def hubspot() -> AsyncIterator[Simulator]:
    async with hubspot_of_yesterday() as simulator:
        yield simulator


@pytest.fixture
async def environ(environ: dict[str, str], tmp_path: Path, hubspot: Simulator) -> AsyncIterator[dict[str, str]]:
    async with own_server(tmp_path) as (url, _):
        yield {
            **environ, "REDIS_URL": url, "HUBSPOT_API_URL": hubspot.url, "NIGHTLY_RECONCILIATION": "1",
            "DATABASE_URL": f"sqlite:///{tmp_path}/audit.sqlite", "HUBSPOT_SEARCH_LIMIT": "40",
            "HUBSPOT_RATE_LIMIT": "10000",
        }  # fmt: skip


async def reconciled(engine: AsyncEngine) -> list[str]:
    query = select(RECORDS.c.detail).where(RECORDS.c.action == Action.RECONCILED).order_by(RECORDS.c.seq)
    return [str(row["detail"]) for row in await fetch(engine, query)]


async def test_killed_comparison_is_made_again_by_another_worker_and_only_once(
    environ: dict[str, str], hubspot: Simulator
) -> None:
    settings = Settings.from_env(environ)
    types = len(tuple(plans_of(load_router(settings.handlers).registrations)))
    records = create_contacts(hubspot, CONTACTS)
    engine = open_engine(settings.database_address)
    await schema.upgrade(engine)
    first, others = RunningProcesses(), RunningProcesses()
    try:
        first.start("workers", environ)
        async with asyncio.timeout(60):
            while len(hubspot.requests.find(path="*/contacts/search")) < 5:  # noqa: ASYNC110 - another process calls
                await asyncio.sleep(0.05)
        first.kill()
        before = await reconciled(engine)
        for _ in range(2):
            others.start("workers", environ)
        async with asyncio.timeout(120):
            while len(await reconciled(engine)) < types:  # noqa: ASYNC110 - other processes write
                await asyncio.sleep(0.2)
        ledger = GapLedger.from_settings(settings, engine)
        (gap,) = await ledger.list()
        assert not any('"contact"' in detail for detail in before)
        assert (gap.scope, gap.causes) == ("contact", (GapCause.NOT_RECEIVED,))
        times = [record.created_at_ms for record in records]
        assert (gap.since, gap.until) == (min(times), max(times) + 1)
        (contacts,) = [detail for detail in await reconciled(engine) if '"contact"' in detail]
        assert f'"records":{CONTACTS}' in contacts
    finally:
        first.kill()
        others.kill()
        await engine.dispose()
