"""One web process and a worker for each of two portals: the events of each reach the CRM of their own portal only."""

import asyncio
import time
from contextlib import AsyncExitStack

import pytest
from redis.asyncio import Redis

from spokes.audit.records import TERMINAL
from spokes.core.redis.keys import JOB_QUEUE
from spokes.core.settings import RECEIVER_PATH
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from spokes.simulator.config import PortalConfig, SimulatorConfig, Subscription, Target
from spokes.simulator.demo import wait_until_ready
from tests.support.deployment import PUBLIC_URL, SECRET
from tests.support.events import recorded
from tests.support.free_ports import free_port
from tests.support.processes.running_processes import RunningProcesses

PORTALS = (50112233, 99887766)
PHONES = {50112233: "(415) 555-2671", 99887766: "(415) 555-2672"}
SUBSCRIPTIONS = (Subscription("contact.creation"), Subscription("contact.propertyChange", property_name="phone"))


def token(portal_id: int) -> str:
    return f"pat-na1-{portal_id}-simulated"


@pytest.mark.slow
async def test_events_of_each_portal_run_in_their_own_crm(
    redis: Redis, environ: dict[str, str], processes: RunningProcesses
) -> None:
    port = free_port()
    target = Target(f"{PUBLIC_URL}{RECEIVER_PATH}", f"http://127.0.0.1:{port}{RECEIVER_PATH}")
    environ |= {"DATABASE_URL": "postgres://127.0.0.1:1/none", "TRUSTED_PROXIES": "1"}
    async with AsyncExitStack() as stack:
        sims = {
            portal_id: await stack.enter_async_context(
                Simulator(
                    SimulatorConfig(
                        (PortalConfig(portal_id=portal_id, token=token(portal_id), subscriptions=SUBSCRIPTIONS),),
                        client_secret=SECRET,
                        target=target,
                    )
                )
            )
            for portal_id in PORTALS
        }
        contacts = {}
        processes.start("ingest", {**environ, "PORT": str(port), "HOST": "127.0.0.1"})
        await wait_until_ready(f"http://127.0.0.1:{port}")
        for portal_id, sim in sims.items():
            kind = sim.crm.types.resolve("contacts")
            contacts[portal_id] = sim.crm.create(kind, {"phone": PHONES[portal_id]}, USER)
        # The events of the second portal wait for the worker that has its token.
        first, second = PORTALS
        processes.start(
            "workers", {**environ, "HUBSPOT_ACCESS_TOKEN": token(first), "HUBSPOT_API_URL": sims[first].url}
        )
        await wait_for_phone(sims[first], contacts[first].id, "+14155552671")
        assert sims[second].requests.total == 0
        processes.start(
            "workers",
            {**environ, "HUBSPOT_ACCESS_TOKEN": token(second), "HUBSPOT_API_URL": sims[second].url},
        )
        await wait_for_phone(sims[second], contacts[second].id, "+14155552672")
        await wait_until_empty(redis)
        written = {portal_id: contact.properties["phone"] for portal_id, contact in contacts.items()}
    assert written == {first: "+14155552671", second: "+14155552672"}
    outcomes = {
        (record.portal_id, record.outcome.value) for record in await recorded(redis) if record.outcome in TERMINAL
    }
    assert {outcome for _, outcome in outcomes} <= {"processed", "echo"}
    assert {portal_id for portal_id, _ in outcomes} == set(PORTALS)


async def wait_for_phone(sim: Simulator, contact_id: str, phone: str) -> None:
    kind, deadline = sim.crm.types.resolve("contacts"), time.monotonic() + 90
    while sim.crm.get(kind, contact_id).properties.get("phone") != phone:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def wait_until_empty(redis: Redis) -> None:
    deadline = time.monotonic() + 90
    while await redis.zcard(JOB_QUEUE):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
