"""workers.upkeep.gaps.gap_watch: reports reach the ledger, with alert and gauge; silent portals are found."""

import asyncio

import orjson
import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.audit.records import Action
from spokes.core import clock
from spokes.core.redis import keys
from spokes.core.settings import Settings
from spokes.gaps.gap import GapCause, MissedInterval, Proof, ProvenInterval
from spokes.gaps.ledger import GapLedger
from spokes.gaps.reports import report_missed, report_proven
from spokes.simulator.api.faults import Fault
from spokes.simulator.app import Simulator
from tests.support.waiting import until
from tests.workers.upkeep.archived import DAY, archive
from workers.upkeep.gaps.gap_watch import watch_gaps, watch_silence
from workers.worker import build_worker

DOWN = MissedInterval(since=1000, until=5000, cause=GapCause.NO_WEB_PROCESS)


async def test_report_becomes_a_gap_of_each_portal_and_an_alert_until_it_is_proven(
    settings: Settings, redis: Redis, store: AsyncEngine
) -> None:
    await redis.sadd(keys.PORTALS, "7")
    await redis.rpush(keys.GAP_REPORTS, "unreadable", '"proof"', "[1]")
    await report_missed(redis, DOWN)
    await watch_gaps(settings, redis, store, AlertEpisodes(redis), ())
    gaps = await GapLedger.from_settings(settings, store).list()
    assert {gap.portal_id for gap in gaps} == {7}
    assert {"contact", "company", "deal"} <= {gap.scope for gap in gaps}
    active = orjson.loads(await redis.hget(keys.ALERTS_ACTIVE, "gaps_open"))
    assert (active["count"], active["causes"]) == (len(gaps), {"no_web_process": len(gaps)})
    assert int(await redis.get(keys.OPEN_GAPS)) == len(gaps)
    await report_proven(redis, ProvenInterval(since=0, until=9000, proof=Proof.JOURNAL))
    await watch_gaps(settings, redis, store, AlertEpisodes(redis), ())
    assert await GapLedger.from_settings(settings, store).list() == []
    assert not await redis.hexists(keys.ALERTS_ACTIVE, "gaps_open")
    assert await redis.llen(keys.GAP_REPORTS) == 0


@pytest.mark.slow  # periodic jobs are looked at every five seconds
async def test_report_of_all_portals_waits_until_hubspot_has_named_the_portal_of_the_token(
    settings: Settings, redis: Redis, store: AsyncEngine, hubspot: Simulator
) -> None:
    settings = settings.model_copy(update={"hubspot_api_url": hubspot.url})
    fault = hubspot.faults.add(Fault(path="*access-token-info*", status=503))
    await report_missed(redis, DOWN)
    worker = build_worker(settings)
    worker._handle_signals = False
    running = asyncio.create_task(worker.async_run())
    ledger = GapLedger.from_settings(settings, store)

    async def has_run() -> bool:
        return bool(await redis.get(keys.periodic_job("gaps")))

    async def has_gaps() -> bool:
        return bool(await ledger.list())

    try:
        await until(has_run)
        assert (await redis.llen(keys.GAP_REPORTS), await ledger.list()) == (1, [])
        hubspot.faults.remove(fault)
        await redis.delete(keys.periodic_job("gaps"))  # due again
        await until(has_gaps)
        assert {gap.portal_id for gap in await ledger.list()} == {hubspot.portal.config.portal_id}
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await worker.close()


async def test_portal_that_became_silent_has_a_gap(settings: Settings, redis: Redis, store: AsyncEngine) -> None:
    now = clock.now_ms()
    delivery = {"action": Action.DELIVERY_RECEIVED, "outcome": None, "subscription_type": ""}
    for day in range(1, 8):
        await archive(redis, store, 25, now - day * DAY - 60_000, **delivery)
    await watch_silence(settings, store)
    gaps = await GapLedger.from_settings(settings, store).list()
    assert {(gap.portal_id, gap.causes) for gap in gaps} == {(1, (GapCause.NO_TRAFFIC,))}
    await archive(redis, store, 1, now, **delivery)


async def test_portal_with_deliveries_has_no_gap(settings: Settings, redis: Redis, store: AsyncEngine) -> None:
    now = clock.now_ms()
    delivery = {"action": Action.DELIVERY_RECEIVED, "outcome": None, "subscription_type": ""}
    for day in range(8):
        await archive(redis, store, 25, now - day * DAY - 60_000, **delivery)
    await watch_silence(settings, store)
    assert await GapLedger.from_settings(settings, store).list() == []
