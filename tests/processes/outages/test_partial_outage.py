"""HubSpot fails one kind of call: its events wait without attempts, everything else runs, and one probe ends it."""

import pytest
from redis.asyncio import Redis

from spokes.audit.records import TERMINAL
from spokes.core.redis import keys
from spokes.queue.pauses.call_pauses import CallPauses
from spokes.simulator.api.faults import Fault
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from tests.support.processes.contact_changes import alerts, outcomes, queue_changes
from tests.support.waiting import until

PORTAL = 50112233
BEFORE, LATER = 8, 30

FAULTS = {
    "contacts.write": ("written", ("read", "company"), [Fault("PATCH"), Fault(path="*/contacts/batch/update")]),
    "contacts.read": ("read", ("written", "company"), [Fault(path="*/contacts/batch/read")]),
    "contacts.search": ("searched", ("read", "written"), [Fault(path="*/contacts/search")]),
    "companies.read": ("company", ("read", "written"), [Fault(path="*/companies/*")]),
}


@pytest.mark.slow
@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("kind", FAULTS)
async def test_calls_of_one_kind_that_fail_pause_only_the_events_that_need_them(
    redis: Redis, hubspot: Simulator, kind: str
) -> None:
    failing, others, faults = FAULTS[kind]
    numbers = [hubspot.faults.add(_unavailable(fault)) for fault in faults]
    company = hubspot.crm.create(hubspot.crm.types.resolve("companies"), {"name": "Acme"}, USER).id
    await queue_changes(redis, hubspot, *[failing] * BEFORE, value=company)

    async def calls_are_paused() -> bool:
        return [pause.kind for pause in await CallPauses(redis).list()] == [kind]

    await until(calls_are_paused)
    await queue_changes(redis, hubspot, *[failing] * LATER, *others, value=company)

    async def others_are_processed() -> bool:
        return len(await outcomes(redis, "processed")) == len(others)

    await until(others_are_processed)

    async def a_probe_has_failed() -> bool:
        return any(pause.failed_probes for pause in await CallPauses(redis).list())

    await until(a_probe_has_failed)
    held = [name.decode() for name in await redis.hkeys(keys.ALERTS_HELD)]  # until its hold-down is over
    assert {*held, *await alerts(redis, "alert.began")} == {f"calls_paused:{PORTAL}"}
    assert not await redis.exists(keys.PAUSED_PORTALS)
    probes = sum(pause.failed_probes or 0 for pause in await CallPauses(redis).list()) + 1
    for number in numbers:
        hubspot.faults.remove(number)

    async def all_are_processed() -> bool:
        return len(await outcomes(redis, *TERMINAL)) == BEFORE + LATER + len(others)

    await until(all_are_processed)
    processed = await outcomes(redis, "processed")
    assert len(processed) == BEFORE + LATER + len(others)
    assert sum(attempt == 1 for attempt in processed) >= LATER + len(others) - probes
    began = await alerts(redis, "alert.began")
    assert began in ([], [f"calls_paused:{PORTAL}"])
    assert await CallPauses(redis).list() == []
    assert await alerts(redis, "alert.ended") == began


def _unavailable(fault: Fault) -> Fault:
    return Fault(fault.method, fault.path, status=503)
