"""core.events: both dialects read, nothing lost, and the key that tells two events apart."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import batch, event
from core.errors import MalformedEvent, RejectedRequest
from core.event_keys import EventKeys
from core.events import Event, parse
from core.refusals import Refusal

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


def test_association_without_object_id_belongs_to_where_it_starts() -> None:
    raw = event(
        subscriptionType="deal.associationChange",
        objectId=None,
        associationType="DEAL_TO_CONTACT",
        fromObjectId=4,
        toObjectId=7,
    )
    assert (Event(raw).object_type, Event(raw).object_id) == ("deal", "4")


def test_merge_names_survivor_and_losers() -> None:
    raw = event(subscriptionType="contact.merge", objectId=9, primaryObjectId=1, mergedObjectIds=[2], newObjectId=9)
    assert (Event(raw).survivor_id, Event(raw).merged_ids) == ("9", ("1", "2"))


def test_redacted_word_is_never_a_value() -> None:
    redacted = Event(
        event(subscriptionType="contact.propertyChange", propertyName="passport", propertyValue="REDACTED")
    )
    assert (redacted.is_sensitive, redacted.property_value) == (True, None)


def test_unknown_type_and_field_are_kept() -> None:
    read = Event(event(subscriptionType="starship.warp", objectId=None, dilithium=[1, {"deep": True}]))
    assert read.type == "starship.warp"
    assert read.raw["dilithium"] == [1, {"deep": True}]


def test_numbers_beyond_double_precision_stay_exact() -> None:
    body = batch(event(objectId=2**53 + 1, eventId=2**63 - 1))
    (read,) = parse(body).events
    assert (read.object_id, read.event_id) == (str(2**53 + 1), 2**63 - 1)


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
def test_malformed_element_says_what_is_wrong(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(MalformedEvent) as fault:
        Event(event(**fields))
    assert fault.value.reason == reason


def test_one_bad_element_leaves_the_others_in_place() -> None:
    read = parse(batch(event(1), 42, event(2), {}, None))
    assert [e.object_id for e in read.events] == ["318845120001", "318845120002"]
    assert [(q.place, q.reason) for q in read.quarantined] == [
        (1, "not_an_object"),
        (3, "subscription_type"),
        (4, "not_an_object"),
    ]


def test_single_object_counts_as_a_batch_of_one() -> None:
    assert len(parse(orjson.dumps(event())).events) == 1


def test_empty_array_is_an_empty_batch() -> None:
    assert parse(b"[]") == ([], [])


@pytest.mark.parametrize("body", [b"", b"[", b"\xff", b'["\\ud800"]', b"[NaN]", b"[" * 100_000])
def test_what_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(RejectedRequest) as refused:
        parse(body)
    assert refused.value.reason is Refusal.BODY_NOT_JSON


@pytest.mark.parametrize("body", [b"1", b'"x"', b"null", b"true"])
def test_json_that_is_no_batch_is_refused(body: bytes) -> None:
    with pytest.raises(RejectedRequest) as refused:
        parse(body)
    assert refused.value.reason is Refusal.BODY_NOT_A_BATCH


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@given(noise=st.lists(JSON, max_size=6), good=st.integers(0, 6), at=st.randoms())
def test_good_events_survive_any_company(noise: list[object], good: int, at: "st.DataObject") -> None:
    elements = [*noise, *(event(n, objectId=-1 - n) for n in range(good))]
    at.shuffle(elements)  # type: ignore[attr-defined]  # hypothesis types randoms() as data
    try:
        body = orjson.dumps(elements)
    except orjson.JSONEncodeError:  # text with lone surrogates cannot be sent either
        return
    ids = {e.object_id for e in parse(body).events}
    assert {str(-1 - n) for n in range(good)} <= ids


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
