"""workers.upkeep.gaps.nightly_reconciliation: each type of each portal once a day, and no failure unseen."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.records import Action
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import RECORDS
from spokes.backfill.plan import BackfillPlan
from spokes.backfill.reconciliation import plans_of
from spokes.backfill.record_events import Interval
from spokes.core import clock
from spokes.core.errors import CRMUnavailable
from spokes.core.redis import keys
from spokes.core.settings import Settings
from spokes.crm.services import CRM
from spokes.gaps.ledger import GapLedger
from spokes.routing import load_router
from spokes.simulator.app import Simulator
from tests.support.hubspot.yesterday import create_contacts, hubspot_of_yesterday
from workers.upkeep.gaps.nightly_reconciliation import NightlyReconciliation

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


class TwoAtOnce(NightlyReconciliation):
    """A reconciliation of several portals, in which each comparison waits for one of another portal."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.compared: list[tuple[int, str]] = []
        self._running: set[int] = set()
        self._barrier = asyncio.Barrier(2)

    async def _due(self, _: Interval) -> list[tuple[int, BackfillPlan]]:
        return [(portal_id, plan) for portal_id in (1, 2, 3, 4) for plan in self._plans[:2]]

    async def _compare(self, _engine: AsyncEngine, portal_id: int, plan: BackfillPlan, _day: Interval) -> None:
        assert portal_id not in self._running
        self._running.add(portal_id)
        await self._barrier.wait()
        self._running.remove(portal_id)
        self.compared.append((portal_id, plan.object_type))
        if portal_id == 3:
            raise CRMUnavailable


async def test_portals_are_compared_at_the_same_time_and_the_types_of_one_in_turn(
    nightly: NightlyReconciliation, store: AsyncEngine, redis: Redis
) -> None:
    several = TwoAtOnce(nightly._settings, redis, nightly._crm, nightly._router)
    async with asyncio.timeout(20):
        await several.compare_due(store)
    assert len(several.compared) == len(set(several.compared)) == 8
    assert b"crm_unavailable" in await redis.hget(keys.ALERTS_ACTIVE, "reconciliation_failed")


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
