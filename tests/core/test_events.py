"""spokes.core.events: both dialects are parsed into one `Event`."""

import pytest

from spokes.core.errors import MalformedEvent
from spokes.core.events import Event
from spokes.intake.event_keys import EventKeys
from tests.support.events import event

KEYS = EventKeys(b"secret")


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
        ({"portalId": "062515"}, "portal_id"),
        ({"portalId": 0}, "portal_id"),
        ({"portalId": True}, "portal_id"),
        ({"occurredAt": None}, "occurred_at"),
        ({"occurredAt": 1.5}, "occurred_at"),
        ({"objectId": None}, "object_id"),
        ({"objectId": "12a"}, "object_id"),
        ({"objectId": 1.5}, "object_id"),
        ({"objectId": 2.0**80}, "object_id"),
        ({"objectId": 0}, "object_id"),
        ({"objectId": -1}, "object_id"),
        ({"objectId": 2**63}, "object_id"),
        ({"objectId": True}, "object_id"),
        ({"occurredAt": 2**63}, "occurred_at"),
        ({"subscriptionType": "object.creation"}, "object_type_id"),
        ({"subscriptionType": "object.creation", "objectTypeId": "a:*"}, "object_type_id"),
        ({"subscriptionType": "a:*.creation"}, "subscription_type"),
        ({"subscriptionType": "contact.merge"}, "merge_ids"),
        ({"subscriptionType": "contact.merge", "mergedObjectIds": [1, "x"]}, "merge_ids"),
        ({"subscriptionType": "contact.merge", "mergedObjectIds": [1], "newObjectId": {}}, "merge_ids"),
        ({"subscriptionType": "contact.merge", "mergedObjectIds": [1, 0]}, "merge_ids"),
        ({"subscriptionType": "contact.merge", "mergedObjectIds": "1,-2"}, "merge_ids"),
        ({"subscriptionType": "contact.propertyChange"}, "property_name"),
        ({"subscriptionType": "contact.associationChange"}, "association_ends"),
    ],
)
def test_malformed_element_names_its_first_invalid_field(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(MalformedEvent) as error:
        Event(event(**fields))
    assert error.value.reason == reason


NO_IDS: list[object] = [
    -1,
    0,
    2**63,
    2**64,
    -(2**63),
    True,
    False,
    1.5,
    -3.0,
    1e300,
    "",
    "0",
    "-1",
    "1x",
    str(2**63),
    {},
]


@pytest.mark.parametrize("name", ["objectId", "primaryObjectId", "newObjectId", "mergedObjectIds", "portalId"])
@pytest.mark.parametrize("value", NO_IDS)
def test_merge_with_a_number_that_is_no_id_is_malformed(name: str, value: object) -> None:
    merge = event(subscriptionType="contact.merge", objectId=9, primaryObjectId=1, mergedObjectIds=[2], newObjectId=9)
    with pytest.raises(MalformedEvent):
        Event({**merge, name: value})
    with pytest.raises(MalformedEvent):
        Event({**merge, name: [value]})


@pytest.mark.parametrize("name", ["fromObjectId", "toObjectId"])
@pytest.mark.parametrize("value", NO_IDS)
def test_association_with_a_number_that_is_no_id_is_malformed(name: str, value: object) -> None:
    association = event(subscriptionType="contact.associationChange", objectId=None, fromObjectId=4, toObjectId=7)
    with pytest.raises(MalformedEvent):
        Event({**association, name: value})


@pytest.mark.parametrize("value", NO_IDS)
def test_object_id_of_an_unknown_kind_that_is_no_id_is_absent(value: object) -> None:
    assert Event(event(subscriptionType="starship.warp", objectId=value)).object_id == ""


@pytest.mark.parametrize("name", ["portalId", "objectId", "eventId", "occurredAt"])
def test_id_sent_as_text_or_as_a_round_float_is_the_same_event(name: str) -> None:
    raw = event()
    for spelling in (str(raw[name]), float(raw[name])):  # type: ignore[arg-type]  # a number
        parsed = Event({**raw, name: spelling})
        assert (parsed.raw, KEYS(parsed)) == (raw, KEYS(Event(raw)))


@pytest.mark.parametrize("sent", [[318, 4], ["318", 4], [None, 318, "4"], "318,4", "318; 4"])
def test_merged_ids_are_read_from_every_spelling(sent: object) -> None:
    raw = event(subscriptionType="contact.merge", objectId=9, newObjectId="9", mergedObjectIds=sent)
    assert (Event(raw).survivor_id, Event(raw).merged_ids) == ("9", ("318", "4"))


@pytest.mark.parametrize("sent", [318845120774, "318845120774"])
def test_single_merged_id_is_one_id(sent: object) -> None:
    raw = event(subscriptionType="contact.merge", objectId=9, mergedObjectIds=sent)
    assert Event(raw).merged_ids == ("318845120774",)
    assert KEYS(Event(raw)) == KEYS(Event({**raw, "mergedObjectIds": [318845120774]}))


@pytest.mark.parametrize("kind", ["creation", "propertyChange", "deletion"])
def test_only_a_merge_is_redirected_to_another_id(kind: str) -> None:
    raw = event(
        subscriptionType=f"contact.{kind}", propertyName="email", objectId=5,
        primaryObjectId=6, newObjectId=7, mergedObjectIds=[8],
    )  # fmt: skip
    assert (Event(raw).survivor_id, Event(raw).merged_ids) == ("5", ())


@pytest.mark.parametrize(
    ("flag", "value", "is_sensitive"),
    [
        (None, "REDACTED", True), (None, "x", False), (False, "REDACTED", False), ("false", "REDACTED", False),
        (True, "", True), ("true", "x", True), ("yes", "REDACTED", True), ([], "x", False), (None, {"a": 1}, True),
    ],
)  # fmt: skip
def test_withheld_value_is_known_by_flag_or_else_by_the_redacted_text(
    flag: object, value: object, is_sensitive: bool
) -> None:
    fields = {"subscriptionType": "contact.propertyChange", "propertyName": "p", "propertyValue": value}
    assert Event(event(**fields, isSensitive=flag)).is_sensitive is is_sensitive


@pytest.mark.parametrize(
    ("value", "text"), [("a", "a"), (7, "7"), (49.9, "49.9"), (True, "true"), (None, None), ("", "")]
)
def test_property_value_is_text_or_absent(value: object, text: str | None) -> None:
    raw = event(subscriptionType="contact.propertyChange", propertyName="p") | {"propertyValue": value}
    assert Event(raw).property_value == text


def test_fields_of_another_type_are_absent() -> None:
    odd = Event(event(changeSource=["CRM_UI"], sourceId={}, appId=[1], eventId="x", attemptNumber="no"))
    assert (odd.change_source, odd.source_id, odd.app_id, odd.event_id, odd.attempt_number) == (*[None] * 4, 0)


# Computed with the version before text ids were read: dedupe marks, dead letters and queued deliveries hold such keys.
@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({}, "3d33f7b62e7cd5f8ac26"),
        (
            {"subscriptionType": "contact.propertyChange", "propertyName": "p", "propertyValue": 7},
            "0e9cb15e11722a321eac",
        ),
        (
            {"subscriptionType": "contact.merge", "primaryObjectId": 1, "mergedObjectIds": [2, 3], "newObjectId": 4},
            "332ca51d9f89885beff3",
        ),
        (
            {
                "subscriptionType": "deal.associationChange", "fromObjectId": 1, "toObjectId": 2,
                "associationType": "DEAL_TO_CONTACT",
            },
            "a2b0254600879925342c",
        ),
        ({"subscriptionType": "conversation.newMessage", "messageId": "m"}, "9bce9a769e2705cf3609"),
        ({"subscriptionType": "starship.warp", "appId": "7", "speed": [9.5]}, "b62e33f13ca4b605535e"),
    ],
)  # fmt: skip
def test_event_is_known_by_its_key_of_earlier_versions(fields: dict[str, object], key: str) -> None:
    made = Event(event(**fields))
    assert key in (KEYS(made), *KEYS.former(made))


def test_app_id_sent_as_text_is_a_number() -> None:
    assert Event(event(appId="7788990")).app_id == 7788990


def test_repr_has_ids_type_and_property_name() -> None:
    changed = Event(event(subscriptionType="contact.propertyChange", propertyName="email", propertyValue="ada@x.org"))
    assert repr(changed) == (
        f"Event(contact.propertyChange object_id={changed.object_id} portal_id={changed.portal_id} "
        f"at={changed.occurred_at} property_name=email)"
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"propertyValue": "ada@x.org"},
        {"propertyName": "ada@x.org"},
        {"propertyName": "+1 202 555 0143"},
        {"propertyName": "12025550143"},
        {"subscriptionType": "contact.ada@x.org"},
        {"subscriptionType": "contact.", "eventType": "ada@x.org"},
        {"sourceId": "ada@x.org", "unknown": {"name": "ada@x.org"}},
    ],
)
def test_repr_never_has_a_value(fields: dict[str, object]) -> None:
    text = repr(Event(event(**{"subscriptionType": "contact.propertyChange", "propertyName": "phone", **fields})))
    assert "ada" not in text
    assert "555" not in text


def test_event_whose_parsing_raises_has_a_repr() -> None:
    assert repr(Event.__new__(Event)) == "Event()"
