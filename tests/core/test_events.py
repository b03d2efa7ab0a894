"""spokes.core.events: both dialects are parsed into one `Event`."""

import pytest

from spokes.core.errors import MalformedEvent
from spokes.core.events import Event
from tests.support.events import event


def test_classic_and_generic_dialect_have_one_type() -> None:
    generic = event(subscriptionType="object.creation", objectTypeId="0-1")
    assert Event(event()).type == Event(generic).type == "contact.creation"


def test_custom_object_keeps_its_type_id() -> None:
    assert Event(event(subscriptionType="object.creation", objectTypeId="2-77")).type == "2-77.creation"


def test_event_type_is_read_where_subscription_type_is_missing() -> None:
    assert Event(event(subscriptionType=None, eventType="deal.deletion")).type == "deal.deletion"


def test_association_without_object_id_belongs_to_the_object_it_starts_from() -> None:
    raw = event(
        subscriptionType="deal.associationChange",
        objectId=None,
        associationType="DEAL_TO_CONTACT",
        fromObjectId=4,
        toObjectId=7,
    )
    assert (Event(raw).object_type, Event(raw).object_id) == ("deal", "4")


def test_merge_names_surviving_and_retired_ids() -> None:
    raw = event(subscriptionType="contact.merge", objectId=9, primaryObjectId=1, mergedObjectIds=[2], newObjectId=9)
    assert (Event(raw).survivor_id, Event(raw).merged_ids) == ("9", ("1", "2"))


def test_redacted_word_is_never_a_value() -> None:
    redacted = Event(
        event(subscriptionType="contact.propertyChange", propertyName="passport", propertyValue="REDACTED")
    )
    assert (redacted.is_sensitive, redacted.property_value) == (True, None)


def test_unknown_type_and_field_are_kept() -> None:
    parsed = Event(event(subscriptionType="starship.warp", objectId=None, dilithium=[1, {"deep": True}]))
    assert parsed.type == "starship.warp"
    assert parsed.raw["dilithium"] == [1, {"deep": True}]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"subscriptionType": None}, "subscription_type"),
        ({"subscriptionType": 7}, "subscription_type"),
        ({"portalId": "62515"}, "portal_id"),
        ({"portalId": True}, "portal_id"),
        ({"occurredAt": None}, "occurred_at"),
        ({"occurredAt": 1.5}, "occurred_at"),
        ({"eventId": "x"}, "event_id"),
        ({"objectId": None}, "object_id"),
        ({"objectId": "12"}, "object_id"),
        ({"subscriptionType": "object.creation"}, "object_type_id"),
        ({"subscriptionType": "contact.propertyChange"}, "property_name"),
        ({"subscriptionType": "contact.associationChange"}, "association_ends"),
    ],
)
def test_malformed_element_names_its_first_invalid_field(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(MalformedEvent) as error:
        Event(event(**fields))
    assert error.value.reason == reason
