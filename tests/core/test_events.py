"""spokes.core.events: both dialects are parsed into one `Event`."""

import pytest

from spokes.core.errors import MalformedEvent
from spokes.core.events import Event
from spokes.intake.event_keys import EventKeys
from tests.support.events import event

key = EventKeys(b"secret")


def change(**fields: object) -> dict[str, object]:
    """A property change in the classic dialect."""
    return event(subscriptionType="contact.propertyChange", propertyName="email", propertyValue="a@b.example", **fields)


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


def test_redelivery_has_the_same_key() -> None:
    assert key(Event(event(attemptNumber=3))) == key(Event(event()))


def test_classic_and_generic_form_of_one_change_have_one_key() -> None:
    generic = change() | {
        "subscriptionType": "object.propertyChange",
        "objectTypeId": "0-1",
        "subscriptionId": 9,
        "isSensitive": False,
    }
    assert key(Event(generic)) == key(Event(change()))


@pytest.mark.parametrize("withheld", ["", None, "REDACTED"])
def test_value_that_was_cleared_or_withheld_has_one_key_in_every_form(withheld: str | None) -> None:
    generic = change() | {"subscriptionType": "object.propertyChange", "objectTypeId": "0-1", "propertyValue": withheld}
    assert key(Event(generic)) == key(Event({k: v for k, v in change().items() if k != "propertyValue"}))


def test_classic_and_generic_form_of_one_association_have_one_key() -> None:
    common = {"objectId": None, "fromObjectId": 4, "toObjectId": 7, "associationRemoved": False}
    classic = event(subscriptionType="deal.associationChange", associationType="DEAL_TO_CONTACT", **common)
    generic = event(
        subscriptionType="object.associationChange", fromObjectTypeId="0-3", toObjectTypeId="0-1", associationTypeId=3,
        associationCategory="HUBSPOT_DEFINED", isPrimaryAssociation=False, **common,
    )  # fmt: skip
    assert key(Event(classic)) == key(Event(generic))


@pytest.mark.parametrize(
    "fields",
    [
        {"portalId": 1},
        {"objectId": 1},
        {"occurredAt": 1},
        {"propertyName": "phone"},
        {"propertyValue": "other@b.example"},
        {"propertyValue": None},
        {"subscriptionType": "company.propertyChange"},
    ],
)
def test_another_change_has_another_key(fields: dict[str, object]) -> None:
    other = {name: value for name, value in {**change(), **fields}.items() if value is not None}
    assert key(Event(other)) != key(Event(change()))


def test_events_that_share_an_event_id_have_keys_of_their_own() -> None:
    assert key(Event(event(1, eventId=5))) != key(Event(event(2, eventId=5)))


def test_primary_association_and_the_plain_one_beside_it_are_two_events() -> None:
    fields = {"subscriptionType": "contact.associationChange", "objectId": None, "fromObjectId": 1, "toObjectId": 2}
    primary, plain = event(isPrimaryAssociation=True, **fields), event(isPrimaryAssociation=False, **fields)
    assert key(Event(primary)) != key(Event(plain))


def test_key_tells_nothing_without_the_secret() -> None:
    assert EventKeys(b"other")(Event(change())) != key(Event(change()))
