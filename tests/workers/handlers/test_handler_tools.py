"""workers.delivery.handler_tools: what a handler's reads are recorded as, and when it may write."""

import re
import time
from typing import Any

import pytest
from redis.asyncio import Redis

from spokes.core.events import Event
from spokes.core.settings import Settings
from spokes.core.telemetry.secret_ages import token_fingerprint
from spokes.routing import uses
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from spokes.tools import Tools
from tests.support.events import recorded
from tests.workers.harness import PORTAL, Harness, change


async def test_reading_a_withheld_value_is_audited(harness: Harness, hubspot: Simulator, redis: Redis) -> None:
    contact = hubspot.crm.create(hubspot.crm.types.resolve("contacts"), {"phone": "+14155552671"}, USER)
    object_id = int(contact.id)
    values: list[tuple[str | None, str]] = []  # of the event, of the record

    @harness.router.register("contact.propertyChange", property="phone")
    @uses(reads={"contacts": ("phone",)})
    async def read_phone(event: Event, tools: Tools) -> None:
        values.append((event.property_value, (await tools.crm.contacts.get(event.object_id))["phone"]))

    visible = change("+14155552671", 1, "phone", object_id)
    withheld = [change("REDACTED", at, name, object_id) for at, name in ((2, "phone"), (3, "city"))]
    await harness.run((visible, *withheld))
    records = await recorded(redis)
    assert values == [(None, "+14155552671")]
    assert [record.detail.get("read") for record in records] == [None, ["phone"], None]  # the first is coalesced


async def test_event_is_not_run_after_its_lane_lapsed(harness: Harness) -> None:
    apply_answer = harness.parts.lanes._apply_answer

    def with_lapsed_lease(*args: Any) -> list[Any]:
        return apply_answer(*args[:-1], time.monotonic() - 1)

    harness.parts.lanes._apply_answer = with_lapsed_lease  # type: ignore[method-assign]
    await harness.run((change("x", 1),))
    assert (harness.calls, await harness.outcomes()) == ([], [("parked", "lease_lost")])


async def test_handler_cannot_write_after_its_lane_lapsed(harness: Harness, hubspot: Simulator) -> None:
    contact = hubspot.crm.create(hubspot.crm.types.resolve("contacts"), {"city": "Bonn"}, USER)

    @harness.router.register("contact.propertyChange", property="written")
    @uses(may=("contacts.update",))
    async def write(event: Event, tools: Tools) -> None:
        harness.end_leases()
        await tools.crm.contacts.update(event.object_id, {"city": "Berlin"})

    await harness.run((change("x", 1, "written", int(contact.id)),))
    assert await harness.outcomes() == [("parked", "lease_lost")]
    assert contact.properties["city"] == "Bonn"


@pytest.mark.parametrize("method", ["update", "merge"])
async def test_write_is_not_sent_if_the_lane_lapsed_while_it_waited_for_a_slot(
    harness: Harness, hubspot: Simulator, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    contact, other = (hubspot.crm.create(hubspot.crm.types.resolve("contacts"), {"city": "Bonn"}, USER) for _ in "12")
    client = harness.crm._queues.client
    send_when_granted = client.send_when_granted

    async def after_a_long_wait(*args: Any) -> Any:
        harness.end_leases()
        return await send_when_granted(*args)

    monkeypatch.setattr(client, "send_when_granted", after_a_long_wait)

    @harness.router.register("contact.propertyChange", property="written")
    @uses(may=("contacts.update", "contacts.merge"))
    async def write(event: Event, tools: Tools) -> None:
        if method == "update":
            await tools.crm.contacts.update(event.object_id, {"city": "Berlin"})
        else:
            await tools.crm.contacts.merge(event.object_id, other.id)

    await harness.run((change("x", 1, "written", int(contact.id)),))
    assert await harness.outcomes() == [("parked", "lease_lost")]
    assert (contact.properties["city"], [call.writes for call in hubspot.requests if call.writes]) == ("Bonn", [])
    entry = await harness.crm.own_writes.basis_of_write(PORTAL, "contact", contact.id, "city", "Berlin")
    assert (entry is not None) is (method == "update")  # kept: another worker may have written the same value


async def test_call_of_a_handler_is_audited_with_its_tokens_fingerprint(
    harness: Harness, hubspot: Simulator, redis: Redis, settings: Settings
) -> None:
    contact = hubspot.crm.create(hubspot.crm.types.resolve("contacts"), {"city": "Bonn"}, USER)
    harness.register_writer()
    await harness.run((change("x", 1, "written", int(contact.id)),))
    assert [(record.action, record.detail.get("token_fingerprint")) for record in await recorded(redis)] == [
        ("crm.write", token_fingerprint(settings)), ("event", token_fingerprint(settings))
    ]  # fmt: skip
    assert re.fullmatch("[0-9a-f]{16}", token_fingerprint(settings))


async def test_failed_call_of_a_handler_is_audited_with_its_tokens_fingerprint(
    harness: Harness, redis: Redis, settings: Settings
) -> None:
    harness.register_writer()
    await harness.run((change("x", 1, "written", 404),))
    assert {record.detail.get("token_fingerprint") for record in await recorded(redis)} == {token_fingerprint(settings)}


async def test_handler_that_makes_no_call_is_audited_without_a_token(harness: Harness, redis: Redis) -> None:
    await harness.run((change("x", 1),))
    assert [record.detail for record in await recorded(redis)] == [{}]
