"""The nightly reconciliation as running workers that are killed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from redis.asyncio import Redis
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.records import Action
from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import RECORDS
from spokes.backfill.reconciliation import plans_of
from spokes.backfill.reconciliation_parts import reconciliation
from spokes.backfill.record_events import Interval
from spokes.core import clock
from spokes.core.redis.keys import AUDIT_STREAM, IMPORT_QUEUE, JOB_QUEUE
from spokes.core.settings import RECEIVER_PATH, Settings
from spokes.crm.services import CRM
from spokes.gaps.gap import GapCause
from spokes.gaps.ledger import GapLedger
from spokes.intake.allow_list import AllowList
from spokes.routing import load_router
from spokes.simulator.api.faults import Fault
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from spokes.simulator.config import Latency, Limits, PortalConfig, SimulatorConfig, Subscription, Target
from spokes.simulator.demo import wait_until_ready
from spokes.subscriptions.subscribed_events import parse_event
from tests.support.deployment import PUBLIC_URL, SECRET, TOKEN
from tests.support.free_ports import free_port
from tests.support.hubspot.yesterday import create_contacts, hubspot_of_yesterday
from tests.support.processes.running_processes import RunningProcesses
from tests.support.redis_server import own_server
from tests.support.waiting import until

pytestmark = pytest.mark.slow
CONTACTS = 3_000
QUICK = Limits(ten_secondly=100_000, search_secondly=100_000)


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
    hubspot.faults.add(Fault(path="*/access-token-info", latency=Latency(median_ms=2_000)))
    try:
        first.start("workers", environ)
        await until(lambda: hubspot.requests.find(path="*/access-token-info"))
        async with asyncio.timeout(25):  # as soon as HubSpot has named the portal, not at the look half a minute later
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


async def test_day_of_changes_merges_and_own_writes_that_all_arrived_has_no_difference(
    environ: dict[str, str], processes: RunningProcesses, tmp_path: Path
) -> None:
    port = free_port()
    names = [parse_event(name) for name in load_router("handlers").registrations]
    subscriptions = tuple(Subscription(name.type, property_name=name.property_name or None) for name in names)
    config = SimulatorConfig(
        portals=(PortalConfig(token=TOKEN, limits=QUICK, subscriptions=subscriptions),), client_secret=SECRET,
        target=Target(f"{PUBLIC_URL}{RECEIVER_PATH}", f"http://127.0.0.1:{port}{RECEIVER_PATH}"),
    )  # fmt: skip
    async with own_server(tmp_path) as (url, redis), Simulator(config) as hubspot, AsyncExitStack() as opened:
        values = {**environ, "REDIS_URL": url, "HUBSPOT_API_URL": hubspot.url, "TRUSTED_PROXIES": "1"}
        values |= {"NIGHTLY_RECONCILIATION": "0", "PORT": str(port), "HOST": "127.0.0.1"}
        settings = Settings.from_env(values)
        engine = open_engine(settings.database_address)
        opened.push_async_callback(engine.dispose)
        await schema.upgrade(engine)
        processes.start("ingest", values)
        processes.start("workers", values)
        await wait_until_ready(f"http://127.0.0.1:{port}")
        contacts, kind = create_contacts(hubspot, 20), hubspot.crm.types.resolve("contacts")
        await asyncio.sleep(1.5)  # so that the next values are not those of the creation
        for number, contact in enumerate(contacts[:10]):
            hubspot.crm.update(contact, {"phone": f"(415) 555-26{number:02}", "firstname": "Ada"}, USER)
        await asyncio.sleep(3)  # handlers write meanwhile
        hubspot.crm.merge(hubspot.crm.get(kind, contacts[0].id), hubspot.crm.get(kind, contacts[11].id), USER)
        await settle(hubspot, redis)
        day = Interval(clock.now_ms() - 3_600_000, clock.now_ms() + 1)
        crm = await CRM.open(settings, redis)
        opened.push_async_callback(crm.close)
        await crm.check_token()
        parts = reconciliation(settings, redis, engine, crm)
        plans, portal_id = tuple(plans_of(map(str, names))), hubspot.portal.config.portal_id
        allowed = AllowList(map(str, names))
        compared = [await parts.compare(portal_id, plan, day, allowed) for plan in plans]
        assert sum(each.missing for each in compared) == 0
        assert sum(each.events for each in compared) >= 18 + 9


async def settle(hubspot: Simulator, redis: Redis) -> None:
    """Wait until all events are delivered, processed and archived."""
    async with asyncio.timeout(120):
        quiet = 0
        while quiet < 10:
            await hubspot.sender.wait_until_drained()
            waiting = [await redis.zcard(JOB_QUEUE), await redis.zcard(IMPORT_QUEUE), await redis.xlen(AUDIT_STREAM)]
            quiet = 0 if any(waiting) else quiet + 1
            await asyncio.sleep(0.2)
