"""workers.lanes.handler_timeouts: slow handlers are cancelled, but not during a write."""

import asyncio

import pytest

from spokes.core.events import Event
from spokes.routing import uses
from spokes.simulator.api.faults import Fault
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from spokes.simulator.config import Latency
from spokes.tools import Tools
from tests.support.events import recorded
from tests.workers.harness import Harness, change


@pytest.fixture
def handler_timeout_s() -> float:
    return 0.4


async def test_slow_handler_is_cancelled_and_retried(harness: Harness) -> None:
    await harness.run((change("x", 1, "slow"), change("y", 1, object_id=2)))
    assert sorted(await harness.outcomes()) == [("processed", ""), ("retried", "handler_timeout")]


async def test_timeout_names_the_line_that_the_handler_waited_at(harness: Harness) -> None:
    await harness.run((change("x", 1, "slow"),))
    (failed,) = [record for record in await recorded(harness.redis) if record.reason == "handler_timeout"]
    assert failed.detail["failure"]["error_at"].startswith("tests/workers/harness.py:")


async def test_handler_is_not_cancelled_while_its_write_is_in_flight(harness: Harness, hubspot: Simulator) -> None:
    contact = hubspot.crm.create(hubspot.crm.types.resolve("contacts"), {"city": "Bonn"}, USER)
    hubspot.faults.add(Fault(method="PATCH", latency=Latency(1000.0, 1000.0)))
    harness.register_writer()
    await harness.run((change("x", 1, "written", int(contact.id)),))
    assert await harness.outcomes() == [("processed", "")]
    assert len(hubspot.requests.find(method="PATCH")) == 1


async def test_handler_is_not_cancelled_before_its_write_is_in_the_ledger(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    @harness.router.register("contact.propertyChange", property="written")
    @uses(may=("contacts.create",))
    async def write(event: Event, tools: Tools) -> None:
        await tools.crm.contacts.create({"city": "Berlin"})

    async def slow(*_: object) -> None:
        await asyncio.sleep(1.0)

    monkeypatch.setattr(harness.crm.own_writes, "record_write", slow)
    await harness.run((change("x", 1, "written"),))
    assert await harness.outcomes() == [("processed", "")]


async def test_slow_handler_is_cancelled_after_its_write(harness: Harness, hubspot: Simulator) -> None:
    contact = hubspot.crm.create(hubspot.crm.types.resolve("contacts"), {"city": "Bonn"}, USER)

    @harness.router.register("contact.propertyChange", property="written")
    @uses(may=("contacts.update",))
    async def write(event: Event, tools: Tools) -> None:
        await tools.crm.contacts.update(event.object_id, {"city": "Berlin"})
        await asyncio.sleep(30)

    await harness.run((change("x", 1, "written", int(contact.id)),))
    assert await harness.outcomes() == [("retried", "handler_timeout")]
