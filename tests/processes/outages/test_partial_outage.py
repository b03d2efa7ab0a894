"""HubSpot fails one kind of call: its events wait without attempts, everything else runs, and one probe ends it."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from spokes.audit.records import TERMINAL
from spokes.core import clock
from spokes.core.delivery import Delivery, Entry, job_payload, new_delivery_id
from spokes.core.redis import keys
from spokes.core.telemetry.alerts import Alert
from spokes.queue.pauses.call_pauses import CallPauses
from spokes.simulator.api.faults import Fault
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from tests.support.events import event, recorded
from tests.support.processes.running_processes import RunningProcesses

PORTAL = 50112233
BEFORE, LATER = 8, 30
Condition = Callable[[], Awaitable[bool]]

FAULTS = {
    "contacts.write": ("written", ("read", "company"), [Fault("PATCH"), Fault(path="*/contacts/batch/update")]),
    "contacts.read": ("read", ("written", "company"), [Fault(path="*/contacts/batch/read")]),
    "contacts.search": ("searched", ("read", "written"), [Fault(path="*/contacts/search")]),
    "companies.read": ("company", ("read", "written"), [Fault(path="*/companies/*")]),
}


@pytest.fixture
def worker(environ: dict[str, str], hubspot: Simulator, processes: RunningProcesses) -> None:
    """A worker that retries soon, so that failures in a row take seconds."""
    more = {
        "HUBSPOT_API_URL": hubspot.url, "DATABASE_URL": "postgres://127.0.0.1:1/none",
        "HANDLERS": "tests.support.handlers.one_call_each", "RETRY_SCHEDULE_S": "1,1,1,1,1,1,1,1",
    }  # fmt: skip
    processes.start("workers", {**environ, **more})


@pytest.mark.slow
@pytest.mark.timeout(150)
@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("kind", FAULTS)
async def test_calls_of_one_kind_that_fail_pause_only_the_events_that_need_them(
    redis: Redis, hubspot: Simulator, kind: str
) -> None:
    failing, others, faults = FAULTS[kind]
    numbers = [hubspot.faults.add(_unavailable(fault)) for fault in faults]
    company = hubspot.crm.create(hubspot.crm.types.resolve("companies"), {"name": "Acme"}, USER).id
    await queue(redis, hubspot, *[failing] * BEFORE, value=company)

    async def calls_are_paused() -> bool:
        return [pause.kind for pause in await CallPauses(redis).list()] == [kind]

    await until(calls_are_paused)
    await queue(redis, hubspot, *[failing] * LATER, *others, value=company)

    async def others_are_processed() -> bool:
        return len(await outcomes(redis, "processed")) == len(others)

    await until(others_are_processed)

    async def a_probe_has_failed() -> bool:
        return any(pause.failed_probes for pause in await CallPauses(redis).list())

    await until(a_probe_has_failed)
    held = [name.decode() for name in await redis.hkeys(keys.ALERTS_HELD)]  # until its hold-down is over
    assert {*held, *await alerts(redis, "alert.began")} == {f"calls_paused:{PORTAL}"}
    assert not await redis.exists(keys.PAUSED_PORTALS)
    for number in numbers:
        hubspot.faults.remove(number)

    async def all_are_processed() -> bool:
        return len(await outcomes(redis, *TERMINAL)) == BEFORE + LATER + len(others)

    await until(all_are_processed)
    processed = await outcomes(redis, "processed")
    assert len(processed) == BEFORE + LATER + len(others)
    assert sum(attempt == 1 for attempt in processed) >= LATER + len(others) - 2  # but for events that were probes
    began = await alerts(redis, "alert.began")
    assert began in ([], [f"calls_paused:{PORTAL}"])
    assert await CallPauses(redis).list() == []
    assert await alerts(redis, "alert.ended") == began


def _unavailable(fault: Fault) -> Fault:
    return Fault(fault.method, fault.path, status=503)


async def queue(redis: Redis, hubspot: Simulator, *names: str, value: str) -> None:
    """Queue a change of a property of a new contact for each name."""
    for name in names:
        record = hubspot.crm.create(hubspot.crm.types.resolve("contacts"), {"city": "Berlin"}, USER)
        delivery_id, at_ms = new_delivery_id(PORTAL), clock.now_ms()
        raw = event(
            objectId=int(record.id), occurredAt=record.created_at_ms, subscriptionType="contact.propertyChange",
            propertyName=name, propertyValue=value,
        )  # fmt: skip
        delivery = Delivery(delivery_id, PORTAL, at_ms, (Entry(f"{record.id:0>20}", 0, raw),))
        await redis.set(keys.JOB_KEY_PREFIX + delivery_id, job_payload(delivery, at_ms))
        await redis.zadd(keys.JOB_QUEUE, {delivery_id: at_ms})
        await redis.publish(keys.WAKE_CHANNEL, "")


async def outcomes(redis: Redis, *names: str) -> list[int]:
    """Return the number of attempts of each event that has one of these outcomes."""
    return [record.attempt for record in await recorded(redis) if record.outcome in names]


async def alerts(redis: Redis, action: str) -> list[str]:
    """Return the alerts that began or ended, without that of the audit store, which no test server replaces here."""
    reasons = [record.reason for record in await recorded(redis) if record.action == action]
    return [reason for reason in reasons if reason != Alert.AUDIT_UNAVAILABLE]


async def until(condition: Condition, *, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, condition.__name__
        await asyncio.sleep(0.1)
