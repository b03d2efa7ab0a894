"""spokes.intake.allow_list: which events are queued."""

import pytest

from spokes.core.errors import ConfigurationError
from spokes.core.events import Event
from spokes.intake.allow_list import AllowList
from tests.support.events import event

REGISTRATIONS = {"contact.creation", "contact.propertyChange:email", "object.deletion"}


def allows(allowed_events: tuple[str, ...] = (), **fields: object) -> bool:
    return AllowList(REGISTRATIONS, allowed_events).allows(Event(event(**fields)))


def change_of(name: str) -> dict[str, object]:
    return {"subscriptionType": "contact.propertyChange", "propertyName": name, "propertyValue": "x"}


def test_registered_type_is_allowed() -> None:
    assert allows()


def test_unregistered_type_is_not_allowed() -> None:
    assert not allows(subscriptionType="contact.merge", mergedObjectIds=[1])


def test_generic_dialect_of_a_registered_type_is_allowed() -> None:
    assert allows(subscriptionType="object.creation", objectTypeId="0-1")


def test_only_the_registered_property_is_allowed() -> None:
    assert (allows(**change_of("email")), allows(**change_of("city"))) == (True, False)


def test_object_stands_for_every_type() -> None:
    assert allows(subscriptionType="ticket.deletion")


def test_allowed_events_adds_a_type() -> None:
    assert allows(("contact.merge",), subscriptionType="contact.merge", mergedObjectIds=[1])


def test_allowed_events_adds_every_property() -> None:
    assert allows(("contact.propertyChange",), **change_of("city"))


def test_allowed_events_excludes_a_type() -> None:
    assert not allows(("-contact.creation",))


def test_entry_that_is_no_type_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError):
        AllowList(REGISTRATIONS, ("everything",))


def test_events_with_long_names_are_decided_and_not_cached() -> None:
    allow_list = AllowList(REGISTRATIONS, ("contact.propertyChange",))
    events = [Event(event(**change_of("x" * 70_000 + str(number)))) for number in range(3)]
    assert [allow_list.allows(each) for each in events] == [True] * 3
    assert not allow_list._cache
