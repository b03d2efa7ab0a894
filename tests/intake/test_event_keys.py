"""spokes.intake.event_keys: events have one key exactly if they report the same change."""

import pytest

from spokes.core.events import Event
from spokes.intake.event_keys import EventKeys
from tests.support.events import event

key = EventKeys(b"secret")


def change(**fields: object) -> dict[str, object]:
    """Return a property change in the classic dialect."""
    return event(subscriptionType="contact.propertyChange", propertyName="email", propertyValue="a@b.example", **fields)


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
def test_missing_value_has_one_key_in_every_form(withheld: str | None) -> None:
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
def test_different_change_has_a_different_key(fields: dict[str, object]) -> None:
    other = {name: value for name, value in {**change(), **fields}.items() if value is not None}
    assert key(Event(other)) != key(Event(change()))


def test_events_that_share_an_event_id_have_different_keys() -> None:
    assert key(Event(event(1, eventId=5))) != key(Event(event(2, eventId=5)))


def test_primary_and_plain_association_of_the_same_objects_have_different_keys() -> None:
    fields = {"subscriptionType": "contact.associationChange", "objectId": None, "fromObjectId": 1, "toObjectId": 2}
    primary, plain = event(isPrimaryAssociation=True, **fields), event(isPrimaryAssociation=False, **fields)
    assert key(Event(primary)) != key(Event(plain))


def association(type_id: object, category: str = "HUBSPOT_DEFINED", **fields: object) -> Event:
    return Event(
        event(
            subscriptionType="object.associationChange", objectId=None, fromObjectTypeId="0-2", fromObjectId=4,
            toObjectTypeId="0-3", toObjectId=7, associationTypeId=type_id, associationCategory=category, **fields,
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    "labelled", [association(13), association("13"), association(37, "USER_DEFINED"), association(6), association(271)]
)
def test_plain_and_labelled_association_of_one_pair_have_different_keys(labelled: Event) -> None:
    assert key(labelled) != key(association(342))


def test_type_of_a_primary_association_is_not_a_label() -> None:
    primary = association(6, isPrimaryAssociation=True)
    assert key(primary) == key(association(342, isPrimaryAssociation=True))


def test_key_depends_on_the_secret() -> None:
    assert EventKeys(b"other")(Event(change())) != key(Event(change()))
