"""Imports and interactive changes, from HubSpot through the web process and a worker back to the CRM."""

import asyncio
import time

import pytest
from redis.asyncio import Redis

from spokes.audit.records import Outcome
from spokes.core.redis.keys import IMPORT_QUEUE
from spokes.core.settings import RECEIVER_PATH
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER, ChangeSource
from spokes.simulator.config import Limits, PortalConfig, SimulatorConfig, Subscription, Target
from spokes.simulator.demo import wait_until_ready
from tests.support.deployment import PUBLIC_URL, SECRET
from tests.support.events import recorded
from tests.support.free_ports import free_port
from tests.support.processes.running_processes import RunningProcesses

IMPORT = ChangeSource("IMPORT", "importId:1")
IMPORTS, INTERACTIVE = 500, 5
PHONE = "(415) 555-2671"


@pytest.mark.slow
async def test_interactive_changes_end_before_an_import_that_was_queued_first(
    redis: Redis, environ: dict[str, str], processes: RunningProcesses
) -> None:
    port = free_port()
    target = Target(f"{PUBLIC_URL}{RECEIVER_PATH}", f"http://127.0.0.1:{port}{RECEIVER_PATH}")
    portal = PortalConfig(limits=Limits(ten_secondly=20), subscriptions=(Subscription("contact.creation"),))
    environ |= {"DATABASE_URL": "postgres://127.0.0.1:1/none", "TRUSTED_PROXIES": "1", "HUBSPOT_RESERVE": "0.1"}
    environ |= {"PORT": str(port), "HOST": "127.0.0.1", "HUBSPOT_ACCESS_TOKEN": portal.token}
    async with Simulator(SimulatorConfig((portal,), client_secret=SECRET, target=target)) as sim:
        processes.start("ingest", environ)
        await wait_until_ready(f"http://127.0.0.1:{port}")
        imported = create(sim, IMPORT, IMPORTS)
        await wait_for_imports(redis, IMPORTS // 100)
        processes.start("workers", {**environ, "HUBSPOT_API_URL": sim.url})
        await wait_for_ends(redis, 1)  # the import is running
        edited: list[str] = []
        for _ in range(INTERACTIVE):
            edited += create(sim, USER, 1)
            await asyncio.sleep(0.2)
        ended = await wait_for_ends(redis, IMPORTS + INTERACTIVE)

    assert sorted(ended) == sorted(imported + edited)  # none is missing, none ended twice
    last_import = max(map(ended.index, imported))
    assert max(map(ended.index, edited)) < last_import


def create(sim: Simulator, source: ChangeSource, count: int) -> list[str]:
    """Create contacts whose phone number the handler corrects; return their ids."""
    kind = sim.crm.types.resolve("contacts")
    return [sim.crm.create(kind, {"phone": PHONE}, source).id for _ in range(count)]


async def wait_for_imports(redis: Redis, deliveries: int) -> None:
    deadline = time.monotonic() + 90
    while await redis.zcard(IMPORT_QUEUE) < deliveries:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def wait_for_ends(redis: Redis, count: int) -> list[str]:
    """Return the ids of `count` or more contacts whose events were processed, in the order of their ends."""
    deadline = time.monotonic() + 120
    while True:
        ends = [record.object_id for record in await recorded(redis) if record.outcome is Outcome.PROCESSED]
        if len(ends) >= count:
            return ends
        assert time.monotonic() < deadline, len(ends)
        await asyncio.sleep(0.1)
