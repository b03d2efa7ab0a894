"""workers.delivery.current_value: the record's value, unless our own write overwrote the event's."""

import pytest

from spokes.core import clock
from spokes.core.events import Event
from spokes.routing import uses
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from spokes.simulator.crm.records import CrmRecord
from spokes.tools import Tools
from tests.workers.harness import PORTAL, Harness, change, merge


@pytest.fixture
def contact(harness: Harness, hubspot: Simulator) -> CrmRecord:
    """Return a contact whose city a handler writes in capitals, from its current value."""

    @harness.router.register("contact.propertyChange", property="city")
    @uses(reads={"contacts": ("city",)}, may=("contacts.update",))
    async def write_in_capitals(event: Event, tools: Tools) -> None:
        record = await tools.crm.contacts.get(event.object_id)
        city = (await tools.current_value(record, "city")).upper()
        if city != record["city"]:
            await tools.crm.contacts.update(event.object_id, {"city": city})

    return hubspot.crm.create(hubspot.crm.types.resolve("contacts"), {"city": "Bonn"}, USER)


async def test_late_change_does_not_overwrite_a_newer_one(harness: Harness, contact: CrmRecord) -> None:
    now_ms, object_id = clock.now_ms(), int(contact.id)
    await harness.run((change("Aachen", now_ms - 60_000, object_id=object_id),))
    assert contact.properties["city"] == "BONN"
    await harness.run((change("Bonn", now_ms - 30_000, object_id=object_id),))
    assert [outcome for outcome, _ in await harness.outcomes()] == ["processed", "superseded"]


async def test_change_just_before_the_read_is_superseded_by_the_write(harness: Harness, contact: CrmRecord) -> None:
    read_ms, object_id = contact.updated_at_ms, int(contact.id)
    await harness.run((change("Aachen", read_ms - 200, object_id=object_id),))
    await harness.run((change("Berlin", read_ms - 100, object_id=object_id),))
    assert [outcome for outcome, _ in await harness.outcomes()] == ["processed", "superseded"]
    assert contact.properties["city"] == "BONN"


async def test_changes_overwritten_by_our_write_are_restored_and_the_newest_wins(
    harness: Harness, contact: CrmRecord
) -> None:
    now_ms, object_id = clock.now_ms(), int(contact.id)
    await harness.crm.own_writes.record_write(PORTAL, "contact", contact.id, {"city": "Bonn"})
    await harness.run((change("Aachen", now_ms - 60_000, object_id=object_id),))
    assert contact.properties["city"] == "AACHEN"
    await harness.run((change("Berlin", now_ms - 30_000, object_id=object_id),))
    assert contact.properties["city"] == "BERLIN"


async def test_record_value_wins_between_two_changes_of_one_millisecond(
    harness: Harness, contact: CrmRecord, hubspot: Simulator
) -> None:
    hubspot.crm.update(contact, {"city": "Berlin"}, USER)
    at_ms, object_id = contact.updated_at_ms, int(contact.id)
    for city in ("Berlin", "Aachen"):
        await harness.run((change(city, at_ms, object_id=object_id),))
    assert [outcome for outcome, _ in await harness.outcomes()] == ["processed", "processed"]
    assert contact.properties["city"] == "BERLIN"


async def test_change_overwritten_by_our_write_is_restored_after_a_merge(
    harness: Harness, contact: CrmRecord, hubspot: Simulator
) -> None:
    crm, now_ms = hubspot.crm, clock.now_ms()
    crm.update(contact, {"city": "BONN"}, USER)
    await harness.crm.own_writes.record_write(PORTAL, "contact", contact.id, {"city": "BONN"})
    other = crm.create(crm.types.resolve("contacts"), {"city": "Ulm"}, USER)
    survivor = crm.merge(contact, other, USER)
    await harness.run((merge(int(survivor.id), int(contact.id), int(other.id)),))
    await harness.run((change("Ulm", now_ms - 60_000, object_id=int(other.id)),))
    assert survivor.properties["city"] == "BONN"
    await harness.run((change("Aachen", now_ms + 30_000, object_id=int(contact.id)),))
    assert survivor.properties["city"] == "AACHEN"
