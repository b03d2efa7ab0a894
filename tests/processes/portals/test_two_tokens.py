"""Two workers while the access token is renewed: HubSpot refuses the old token, and every event is processed."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from spokes.audit.records import TERMINAL
from spokes.core import clock
from spokes.core.delivery import Delivery, Entry, job_payload, new_delivery_id
from spokes.core.redis import keys
from spokes.core.settings import Settings
from spokes.core.telemetry.secret_ages import token_fingerprint
from spokes.queue.token_reports import TokenReports
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from spokes.simulator.config import PortalConfig, SimulatorConfig
from spokes.simulator.demo import clean_environment
from spokes.simulator.portal import TokenState
from tests.support.deployment import ROOT, TOKEN
from tests.support.events import event, recorded
from tests.support.processes.contact_changes import alerts
from tests.support.waiting import until

PORTAL = 50112233
NEW_TOKEN = "pat-na1-the-new-token-of-this-app"
EVENTS = 40


@pytest.fixture
async def hubspot() -> AsyncIterator[Simulator]:
    portal = PortalConfig(portal_id=PORTAL, token=TOKEN, further_tokens=(NEW_TOKEN,))
    async with Simulator(SimulatorConfig(portals=(portal,))) as simulator:
        yield simulator


@pytest.fixture
def workers(environ: dict[str, str], hubspot: Simulator) -> Iterator[None]:
    """One worker with the old token and one with the new token."""
    more = {"HUBSPOT_API_URL": hubspot.url, "DATABASE_URL": "postgres://127.0.0.1:1/none"}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "workers"],
            cwd=ROOT,
            env=clean_environment({**environ, **more, "HUBSPOT_ACCESS_TOKEN": token}),
            stderr=subprocess.DEVNULL,
        )
        for token in (TOKEN, NEW_TOKEN)
    ]
    yield
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.usefixtures("workers")
async def test_worker_with_the_refused_token_leaves_its_events_to_the_other(
    redis: Redis, hubspot: Simulator, environ: dict[str, str]
) -> None:
    reports = TokenReports(redis)

    async def both_report() -> bool:
        return len(await reports.live(PORTAL)) == 2

    async def all_are_final() -> bool:
        return len(await final_outcomes(redis)) == EVENTS

    async def an_alert_has_begun() -> bool:  # by another task of the worker than that of the events
        return bool(await alerts(redis, "alert.began"))

    async def an_alert_has_ended() -> bool:
        return bool(await alerts(redis, "alert.ended"))

    await until(both_report)
    hubspot.portal.token_state = TokenState.REVOKED
    for _ in range(EVENTS):
        await queue(redis, hubspot)
        await asyncio.sleep(0.05)
    await until(all_are_final)
    assert await final_outcomes(redis) == [("processed", 1)] * EVENTS
    assert not await redis.exists(keys.PAUSED_PORTALS)
    old = token_fingerprint(Settings.from_env({**environ, "HUBSPOT_ACCESS_TOKEN": TOKEN}))
    await until(an_alert_has_begun)
    assert await alerts(redis, "alert.began") == [f"worker_token_refused:{PORTAL}:{old}"]
    hubspot.portal.token_state = TokenState.VALID
    await until(an_alert_has_ended)
    assert await alerts(redis, "alert.ended") == [f"worker_token_refused:{PORTAL}:{old}"]


async def queue(redis: Redis, hubspot: Simulator) -> None:
    record = hubspot.crm.create(hubspot.crm.types.resolve("contacts"), {"phone": "(415) 555-2671"}, USER)
    delivery_id, at_ms = new_delivery_id(PORTAL), clock.now_ms()
    raw = event(objectId=int(record.id), occurredAt=record.created_at_ms)
    delivery = Delivery(delivery_id, PORTAL, at_ms, (Entry(f"{record.id:0>20}", 0, raw),))
    await redis.set(keys.JOB_KEY_PREFIX + delivery_id, job_payload(delivery, at_ms))
    await redis.zadd(keys.JOB_QUEUE, {delivery_id: at_ms})
    await redis.publish(keys.WAKE_CHANNEL, "")


async def final_outcomes(redis: Redis) -> list[tuple[str, int]]:
    """Return the outcome and the number of attempts of each event that does not run again."""
    records = await recorded(redis)
    return [(record.outcome.value, record.attempt) for record in records if record.outcome in TERMINAL]
