"""workers.upkeep.nightly_reconciliation: each type of each portal once a day, and no failure unseen."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.records import Action
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import RECORDS
from spokes.backfill.reconciliation import plans_of
from spokes.core import clock
from spokes.core.redis import keys
from spokes.core.settings import Settings
from spokes.crm.services import CRM
from spokes.gaps.ledger import GapLedger
from spokes.routing import load_router
from spokes.simulator.app import Simulator
from tests.support.hubspot.yesterday import create_contacts, hubspot_of_yesterday
from workers.upkeep.nightly_reconciliation import NightlyReconciliation

TYPES = len(tuple(plans_of(load_router("handlers").registrations)))


@pytest.fixture
async def hubspot() -> AsyncIterator[Simulator]:
    async with hubspot_of_yesterday() as simulator:
        yield simulator


@pytest.fixture
async def nightly(settings: Settings, redis: Redis, hubspot: Simulator) -> AsyncIterator[NightlyReconciliation]:
    limits = {"hubspot_rate_limit": 100_000, "hubspot_search_limit": 10_000}
    settings = settings.model_copy(update={"hubspot_api_url": hubspot.url, **limits})
    crm = await CRM.open(settings, redis)
    await crm.check_token()
    yield NightlyReconciliation(settings, redis, crm, load_router(settings.handlers))
    await crm.close()


async def comparisons(engine: AsyncEngine) -> int:
    query = select(func.count().label("count")).where(RECORDS.c.action == Action.RECONCILED)
    return int(str((await fetch(engine, query))[0]["count"]))


async def test_each_type_is_compared_once_a_day(
    nightly: NightlyReconciliation, settings: Settings, store: AsyncEngine, redis: Redis, hubspot: Simulator
) -> None:
    create_contacts(hubspot, 2)
    await nightly.compare_due(store)
    await nightly.compare_due(store)
    assert await comparisons(store) == TYPES
    assert [gap.scope for gap in await GapLedger.from_settings(settings, store).list()] == ["contact"]
    portal_id = hubspot.portal.config.portal_id
    await redis.set(keys.reconciled_day(portal_id, "contact"), "2020-01-01")
    await nightly.compare_due(store)
    assert await comparisons(store) == TYPES + 1


async def test_portal_that_the_deployment_does_not_serve_is_not_compared(
    nightly: NightlyReconciliation, store: AsyncEngine
) -> None:
    nightly._settings = nightly._settings.model_copy(update={"portal_ids": frozenset({9})})
    await nightly.compare_due(store)
    assert await comparisons(store) == 0


async def test_day_that_cannot_be_compared_is_an_alert_until_it_can(
    nightly: NightlyReconciliation, store: AsyncEngine, redis: Redis
) -> None:
    await redis.xadd(keys.AUDIT_STREAM, {"r": "x"}, id=f"{clock.now_ms() - 4 * 86_400_000}-1")
    await nightly.compare_due(store)
    assert b"audit_backlog" in await redis.hget(keys.ALERTS_ACTIVE, "reconciliation_failed")
    assert await comparisons(store) == 0
    await redis.delete(keys.AUDIT_STREAM)
    await nightly.compare_due(store)
    assert not await redis.hexists(keys.ALERTS_ACTIVE, "reconciliation_failed")
    assert await comparisons(store) == TYPES
