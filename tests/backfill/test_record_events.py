"""spokes.backfill.record_events: a record becomes the events that HubSpot would have sent, with equal event keys."""

import pytest

from spokes.backfill.plan import BackfillPlan
from spokes.backfill.record_events import Interval, archived_events, merged_ids, record_events
from spokes.core.events import Event
from spokes.intake.event_keys import EventKeys

KEYS = EventKeys(b"k" * 32)
PLAN = BackfillPlan("contact", ("phone",), creations=True, deletions=True, merges=True)
INTERVAL = Interval(1_795_000_000_000, 1_795_000_100_000)
IN, LATER, BEFORE = "2026-11-18T11:06:50.000Z", "2026-11-18T13:00:00.000Z", "2026-11-18T10:00:00.000Z"
AT = 1_795_000_010_000


def record(*history: tuple[str, str], **fields: object) -> dict[str, object]:
    past = [{"value": value, "timestamp": at, "sourceType": "CRM_UI"} for value, at in history]
    return {
        "id": "17", "createdAt": BEFORE, "updatedAt": LATER, "properties": {"phone": "3"},
        "propertiesWithHistory": {"phone": past}, **fields,
    }  # fmt: skip


def test_event_has_the_key_of_the_event_that_hubspot_sends() -> None:
    (event,) = record_events(PLAN, 7, record(("3", LATER), ("2", IN), ("1", BEFORE)), INTERVAL)
    pushed = {
        "eventId": 5, "subscriptionId": 6, "portalId": 7, "appId": 8, "occurredAt": AT, "attemptNumber": 2,
        "subscriptionType": "contact.propertyChange", "objectId": 17, "propertyName": "phone", "propertyValue": "2",
        "changeSource": "INTEGRATION", "sourceId": "userId:1",
    }  # fmt: skip
    assert KEYS(Event(event)) == KEYS(Event(pushed))


def test_only_the_newest_change_of_the_interval_is_an_event() -> None:
    near = "2026-11-18T11:06:49.000Z"
    (event,) = record_events(PLAN, 7, record(("2", IN), ("1", near)), INTERVAL)
    assert (event["propertyValue"], event["occurredAt"], event["changeSource"]) == ("2", AT, "CRM_UI")


def test_record_without_a_change_in_the_interval_has_no_event() -> None:
    assert list(record_events(PLAN, 7, record(("3", LATER), ("1", BEFORE)), INTERVAL)) == []
    assert list(record_events(PLAN, 7, record(), INTERVAL)) == []


def test_cleared_value_is_an_event() -> None:
    (event,) = record_events(PLAN, 7, record(("", IN)), INTERVAL)
    assert event["propertyValue"] == ""


def test_response_without_history_states_the_present_value_at_the_last_change() -> None:
    (event,) = record_events(PLAN, 7, record(updatedAt=IN, propertiesWithHistory=None), INTERVAL)
    assert (event["propertyValue"], event["occurredAt"]) == ("3", AT)
    assert list(record_events(PLAN, 7, record(propertiesWithHistory=None), INTERVAL)) == []


def test_history_in_epoch_ms_is_read() -> None:
    (event,) = record_events(PLAN, 7, record(("2", str(AT))), INTERVAL)
    assert event["occurredAt"] == AT


def test_record_created_in_the_interval_is_a_creation() -> None:
    (event,) = record_events(PLAN, 7, record(createdAt=IN), INTERVAL)
    assert (event["subscriptionType"], event["occurredAt"]) == ("contact.creation", AT)


def test_archived_record_is_a_deletion_if_it_was_archived_in_the_interval() -> None:
    (event,) = archived_events(PLAN, 7, record(archivedAt=IN), INTERVAL)
    assert (event["subscriptionType"], event["occurredAt"]) == ("contact.deletion", AT)
    assert list(archived_events(PLAN, 7, record(archivedAt=BEFORE), INTERVAL)) == []


def test_merge_that_was_not_received_is_an_event() -> None:
    merged = record(properties={"hs_merged_object_ids": "11;12"}, updatedAt=IN)
    (event,) = record_events(PLAN, 7, merged, INTERVAL, known_merges={"11"})
    parsed = Event(event)
    assert (parsed.type, event["mergedObjectIds"], event["newObjectId"]) == ("contact.merge", [12], 17)


def test_merge_of_contacts_is_dated_by_its_own_time() -> None:
    merged = record(properties={"hs_calculated_merged_vids": f"11:{AT};12:{AT + 10**8}"})
    assert merged_ids(merged) == ("11", "12")
    (event,) = record_events(PLAN, 7, merged, INTERVAL)
    assert (event["mergedObjectIds"], event["occurredAt"]) == ([11], AT)


def merged(*history: tuple[str, str], **fields: object) -> dict[str, object]:
    """Return a record whose history, newest first, names the records that were merged into it."""
    past = [{"value": value, "timestamp": at} for value, at in history]
    named = {
        "properties": {"hs_merged_object_ids": history[0][0]},
        "propertiesWithHistory": {"hs_merged_object_ids": past},
    }
    return record(**{**named, **fields})


def test_merge_is_dated_by_the_first_history_entry_that_names_it() -> None:
    events = list(record_events(PLAN, 7, merged(("11;12;13", LATER), ("11;12", IN), ("11", BEFORE)), INTERVAL))
    assert [(event["mergedObjectIds"], event["occurredAt"]) for event in events] == [([12], AT)]


def test_merge_dated_by_a_history_has_the_key_of_the_event_that_hubspot_sends() -> None:
    (event,) = record_events(PLAN, 7, merged(("11;12", IN)), INTERVAL)
    pushed = {
        "eventId": 5, "portalId": 7, "occurredAt": AT, "subscriptionType": "contact.merge", "objectId": 17,
        "primaryObjectId": 12, "mergedObjectIds": [11], "newObjectId": 17, "numberOfPropertiesMoved": 3,
    }  # fmt: skip
    assert KEYS(Event(event)) == KEYS(Event(pushed))


def test_merge_whose_property_was_calculated_after_the_interval_is_an_event() -> None:
    end = Interval(INTERVAL.since, AT - 2000)
    (event,) = record_events(PLAN, 7, merged(("11", IN)), end)
    assert event["mergedObjectIds"] == [11]


@pytest.mark.parametrize("unreadable", [{"hs_merged_object_ids": None}, {"hs_merged_object_ids": "x"}, {}, None, [1]])
def test_merge_without_a_readable_history_is_dated_by_the_last_change(unreadable: object) -> None:
    (event,) = record_events(PLAN, 7, merged(("11", IN), updatedAt=LATER, propertiesWithHistory=unreadable), INTERVAL)
    assert (event["mergedObjectIds"], event["occurredAt"]) == ([11], AT + 6_790_000)


@pytest.mark.parametrize(
    ("object_type", "expected"),
    [("deal", ("deal.creation", None)), ("note", ("object.creation", "0-46")), ("2-123", ("object.creation", "2-123"))],
)
def test_type_without_a_classic_name_is_sent_as_a_generic_event(
    object_type: str, expected: tuple[str, str | None]
) -> None:
    plan = BackfillPlan(object_type, (), creations=True, deletions=False, merges=False)
    (event,) = record_events(plan, 7, record(createdAt=IN), INTERVAL)
    assert (event["subscriptionType"], event.get("objectTypeId")) == expected
    assert Event(event).object_type == object_type


@pytest.mark.parametrize("broken", [{}, {"id": "x"}, {"id": None}, {"id": "²"}])
def test_element_without_an_id_is_no_event(broken: dict[str, object]) -> None:
    assert list(record_events(PLAN, 7, broken, INTERVAL)) == []
