"""spokes.intake.journal: entries of the journal as events, and their keys beside those of pushed events."""

from typing import Any

import orjson
import pytest

from spokes.core.events import Event
from spokes.intake.event_keys import EventKeys
from spokes.intake.journal.entries import read_time
from spokes.intake.journal.page_events import PageEvents, read_entries
from spokes.portals.lifecycles import Lifecycle
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from spokes.simulator.config import PortalConfig, SimulatorConfig, Subscription

KEYS = EventKeys(b"secret")
UPDATE = {
    "type": "crmObject", "portalId": 7, "occurredAt": "2026-09-10T11:58:01.002Z", "action": "UPDATE",
    "objectTypeId": "0-1", "objectId": 9876, "propertyChanges": {"firstname": "Ann", "phone": None},
}  # fmt: skip
AT = 1_789_041_481_002


def read(*entries: object) -> PageEvents:
    return read_entries([entry if isinstance(entry, bytes) else orjson.dumps(entry) for entry in entries])


def events(*entries: object) -> list[Event]:
    return read(*entries).parsed.events


def reasons(*entries: object) -> list[str]:
    return [element.reason for element in read(*entries).parsed.malformed]


def test_entry_of_several_properties_is_one_event_for_each() -> None:
    first, second = events(UPDATE)
    assert (first.type, first.object_id, first.occurred_at) == ("contact.propertyChange", "9876", AT)
    assert [(event.property_name, event.property_value) for event in (first, second)] == [
        ("firstname", "Ann"), ("phone", ""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("action", "type_"),
    [("CREATE", "contact.creation"), ("DELETE", "contact.deletion"), ("RESTORE", "contact.restore"),
     ("GDPR_DELETE", "contact.privacyDeletion")],
)  # fmt: skip
def test_action_decides_the_type(action: str, type_: str) -> None:
    assert [event.type for event in events({**UPDATE, "action": action, "propertyChanges": {}})] == [type_]


def test_creation_with_values_is_a_creation_and_their_changes() -> None:
    types = [event.type for event in events({**UPDATE, "action": "CREATE"})]
    assert types == ["contact.creation", "contact.propertyChange", "contact.propertyChange"]


def test_merge_names_survivor_and_merged_records() -> None:
    (merge,) = events({**UPDATE, "action": "MERGE", "mergedObjectIds": ["5", 6], "propertyChanges": None})
    assert (merge.type, merge.survivor_id, merge.merged_ids) == ("contact.merge", "9876", ("5", "6"))


def test_merge_without_merged_records_is_kept() -> None:
    assert reasons({**UPDATE, "action": "MERGE", "propertyChanges": {}}) == ["merge_ids"]


def test_association_is_an_association_change() -> None:
    entry = {
        "type": "association", "portalId": 7, "occurredAt": AT, "action": "ASSOCIATION_REMOVED",
        "fromObjectTypeId": "0-1", "fromObjectId": "1", "toObjectTypeId": "0-2", "toObjectId": 2,
        "associationTypeId": 279, "associationCategory": "HUBSPOT_DEFINED", "isPrimary": False,
    }  # fmt: skip
    (event,) = events(entry)
    assert (event.type, event.object_id, event.association_target) == (
        "contact.associationChange", "1", ("company", "2"),
    )  # fmt: skip
    assert event.raw["associationRemoved"] is True


def test_installs_and_uninstalls_are_no_events() -> None:
    entry = {"type": "app_lifecycle_event", "portalId": 7, "occurredAt": AT, "action": "APP_INSTALL", "properties": {}}
    page = read(entry, {**entry, "action": "APP_UNINSTALL"})
    assert page.lifecycles == [Lifecycle(7, True, AT), Lifecycle(7, False, AT)]
    assert not page.parsed.events


@pytest.mark.parametrize(
    "entry",
    [{"type": "listMembership", "portalId": 7, "action": "ADDED_TO_LIST", "listId": 5},
     {**UPDATE, "action": "SNAPSHOT"}, {**UPDATE, "action": "CARRIER_PIGEON"}, {"type": "association"}, {},
     {"type": None}, {"type": ["crmObject"], "action": {}}],
)  # fmt: skip
def test_unknown_entry_is_kept_whole(entry: object) -> None:
    (element,) = read(entry).parsed.malformed
    assert (element.reason, element.content) == ("unrecognised_entry", orjson.dumps(entry))


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"portalId": "x"}, "portal_id"), ({"objectId": None}, "object_id"), ({"objectTypeId": 5}, "object_type_id"),
     ({"occurredAt": "yesterday"}, "occurred_at"), ({"propertyChanges": ["a"]}, "property_name")],
)  # fmt: skip
def test_unreadable_field_keeps_the_entry(change: dict[str, object], reason: str) -> None:
    page = read({**UPDATE, **change}, UPDATE)
    assert ([element.reason for element in page.parsed.malformed], len(page.parsed.events)) == ([reason], 2)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [(b"[1]", "not_an_object"), (b"null", "not_an_object"), (b'{"a":nil}', "not_json"), (b"{" * 2000, "not_json"),
     (b'{"type":"crmObject","action":"UPDATE","propertyChanges":{"a":' + b"[" * 300 + b"]" * 300 + b"}}",
      "nested_too_deep")],
)  # fmt: skip
def test_damaged_entry_leaves_the_others(entry: bytes, reason: str) -> None:
    page = read(UPDATE, entry, UPDATE)
    assert ([element.reason for element in page.parsed.malformed], len(page.parsed.events)) == ([reason], 4)


def test_position_counts_within_the_page() -> None:
    (element,) = read_entries([b"1"], first=30).parsed.malformed
    assert element.position == 30


def test_ids_may_be_text() -> None:
    assert events({**UPDATE, "portalId": "7", "objectId": "9876"})[0].object_id == "9876"


def test_update_without_properties_is_nothing() -> None:
    assert read({**UPDATE, "propertyChanges": {}}).parsed == read().parsed


@pytest.mark.parametrize(
    ("value", "expected"),
    [("2026-09-10T11:58:01.002Z", AT), ("2026-09-10T13:58:01.002+02:00", AT), ("2026-09-10T11:58:01.002999Z", AT),
     ("2026-09-10T11:58:01.002", AT), (AT, AT), (str(AT), AT), (float(AT), AT), ("", None), (None, None), (True, None),
     ("soon", None)],
)  # fmt: skip
def test_time_is_read_from_text_or_number(value: object, expected: int | None) -> None:
    assert read_time(value) == expected


@pytest.mark.parametrize("has_new_id", [True, False])
async def test_change_that_is_pushed_and_journaled_identically_has_one_key(has_new_id: bool) -> None:
    portal = PortalConfig(
        merge_makes_new_id=has_new_id,
        subscriptions=(
            Subscription("contact.merge"),
            Subscription("contact.creation"), Subscription("contact.deletion"), Subscription("contact.propertyChange"),
            Subscription("contact.restore"), Subscription("object.associationChange", object_type="0-1"),
        ),
    )  # fmt: skip
    async with Simulator(SimulatorConfig(portals=(portal,))) as sim:
        contacts, companies = sim.crm.types.resolve("contacts"), sim.crm.types.resolve("companies")
        record = sim.crm.create(contacts, {"email": "ada@mail.example"}, USER)
        sim.crm.update(record, {"firstname": "Ada", "phone": "1", "lastname": ""}, USER)
        company = sim.crm.create(companies, {"name": "Engines"}, USER)
        association = sim.crm.associations.types.unlabelled(contacts.type_id, companies.type_id)
        sim.crm.associations.add(record.ref, company.ref, [association], USER)
        sim.crm.update(record, {"phone": ""}, USER)
        sim.crm.archive(record, USER)
        sim.crm.restore(record, USER)
        sim.crm.merge(sim.crm.create(contacts, {"email": "a.l@mail.example"}, USER), record, USER)
        pushed: list[Any] = [orjson.loads(orjson.dumps(sent.element)) for sent in sim.deliveries.events]
        sim.journal.store.publish()
        (page,) = sim.journal.store.pages()
        journaled = events(*page.entries)
    expected = {KEYS(Event(element)) for element in pushed}
    assert len(expected) == len(pushed)
    assert expected == {KEYS(event) for event in journaled if event.object_type == "contact"}
