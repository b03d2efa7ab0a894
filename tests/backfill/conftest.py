"""A simulated HubSpot whose past a test writes, and backfills of it with real Valkey and SQLite."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine
from spokes.backfill.checkpoint import BackfillCheckpoint, Counts
from spokes.backfill.crm_reader import CRMReader
from spokes.backfill.plan import BackfillPlan
from spokes.backfill.run import BackfillParts, BackfillResult, BackfillRun
from spokes.backfill.store import Backfill, BackfillStore, new_backfill_id
from spokes.backfill.window_walk import Walk
from spokes.core import clock
from spokes.core.delivery import Delivery, decode
from spokes.core.redis.keys import IMPORT_QUEUE, JOB_KEY_PREFIX
from spokes.core.settings import Settings
from spokes.crm.services import CRM
from spokes.gaps.ledger import GapLedger
from spokes.intake.event_source import EventSource
from spokes.simulator.app import Simulator
from spokes.simulator.changes import ChangeSource
from spokes.simulator.clock import ManualClock
from spokes.simulator.config import Limits, PortalConfig, SimulatorConfig
from spokes.simulator.crm.records import CrmRecord
from tests.support.deployment import TOKEN

USER = ChangeSource("CRM_UI", "userId:1")
HOUR_MS = 3_600_000
PLAN = BackfillPlan("contact", ("phone",), creations=True, deletions=True, merges=True)
REGISTRATIONS = {
    "contact.creation", "contact.propertyChange:phone", "contact.propertyChange:email", "contact.deletion",
    "contact.merge",
}  # fmt: skip


async def _no_wait(_: float = 0.0) -> None:
    """Return at once."""


@dataclass
class World:
    """HubSpot, whose clock a test advances up to the present, and one deployment."""

    sim: Simulator
    hands: ManualClock
    crm: CRM
    source: EventSource
    store: BackfillStore
    ledger: GapLedger
    engine: AsyncEngine
    redis: Redis

    @property
    def portal_id(self) -> int:
        return self.sim.portal.config.portal_id

    @property
    def since(self) -> int:
        """The begin of the outage."""
        return clock.now_ms() - 26 * HOUR_MS

    def contact(self, number: int, **properties: str) -> CrmRecord:
        """Create a contact at HubSpot's present time."""
        type_ = self.sim.crm.types.resolve("contacts")
        return self.sim.crm.create(type_, {"email": f"c{number}@example.org", **properties}, USER)

    def change(self, record: CrmRecord, **properties: str) -> None:
        self.sim.crm.update(record, properties, USER)

    def new_backfill(
        self, plan: BackfillPlan = PLAN, *, since: int | None = None, until: int | None = None
    ) -> Backfill:
        now = clock.now_ms()
        begin = self.since if since is None else since
        return Backfill(
            id=new_backfill_id(), portal_id=self.portal_id, object_type=plan.object_type, since=begin,
            until=now if until is None else until, started_at=now, started_by="ada", changed_at=now,
            checkpoint=BackfillCheckpoint(walk=Walk.start(begin, now - 60_000), archived_done=not plan.deletions),
            counts=Counts(),
        )  # fmt: skip

    async def run(
        self, backfill: Backfill, plan: BackfillPlan = PLAN, *, runner: str = "r1", is_new: bool = True,
        sleep: Callable[[float], Awaitable[None]] = _no_wait, room: Callable[[], Awaitable[None]] = _no_wait,
        index_lag_s: float = 0.0,
    ) -> BackfillResult:  # fmt: skip
        if is_new:
            await self.store.create(backfill, runner)
        reader = CRMReader(self.crm, backfill.portal_id, plan, backfill.counts, sleep=sleep)
        parts = BackfillParts(
            store=self.store, ledger=self.ledger, engine=self.engine, admission=self.source, room=room, sleep=sleep,
            index_lag_s=index_lag_s,
        )  # fmt: skip
        return await BackfillRun(backfill, plan, reader, parts, runner=runner).run()

    async def queued(self) -> list[tuple[str, str, int, str]]:
        """Return type, object id, time and value of each event that waits, sorted."""
        events = []
        for job_id in await self.redis.zrange(IMPORT_QUEUE, 0, -1):
            payload = await self.redis.get(JOB_KEY_PREFIX + job_id.decode())
            for entry in Delivery.from_job(decode(payload)["a"][0]).entries:
                event = entry.event
                events.append((event.type, event.object_id, event.occurred_at, event.property_value or ""))
        return sorted(events)


@pytest.fixture
def account() -> PortalConfig:
    """The account; a file of tests may replace it."""
    return PortalConfig(token=TOKEN)


@pytest.fixture
async def world(environ: dict[str, str], redis: Redis, account: PortalConfig, tmp_path: Path) -> AsyncIterator[World]:
    hands = ManualClock(now_ms=clock.now_ms() - 30 * HOUR_MS)
    fast = Limits(ten_secondly=100_000, search_secondly=100_000)
    async with AsyncExitStack() as stack:
        config = SimulatorConfig(portals=(replace(account, limits=fast),))
        sim = await stack.enter_async_context(Simulator(config, clock=hands))
        settings = Settings.from_env(
            {
                **environ, "HUBSPOT_API_URL": sim.url, "DATABASE_URL": f"sqlite:///{tmp_path}/audit.sqlite",
                "HUBSPOT_SEARCH_LIMIT": "10000", "HUBSPOT_RATE_LIMIT": "100000",
            }
        )  # fmt: skip
        engine = open_engine(settings.database_address)
        stack.push_async_callback(engine.dispose)
        await schema.upgrade(engine)
        crm = await CRM.open(settings, redis)
        stack.push_async_callback(crm.close)
        await crm.check_token()
        source = EventSource.from_settings("backfill", redis, settings, REGISTRATIONS)
        stack.push_async_callback(source.close)
        yield World(
            sim, hands, crm, source, BackfillStore.from_settings(settings, engine, "ada"),
            GapLedger.from_settings(settings, engine), engine, redis,
        )  # fmt: skip
