"""spokes.intake.allow_list: what is taken in."""

import pytest

from spokes.core.errors import ConfigurationError
from spokes.core.events import Event
from spokes.intake.allow_list import AllowList
from tests.support.events import event

CLAIMS = {"contact.creation", "contact.propertyChange:email", "object.deletion"}


def wants(words: tuple[str, ...] = (), **fields: object) -> bool:
    return AllowList(CLAIMS, words).allows(Event(event(**fields)))


def email(name: str = "email") -> dict[str, object]:
    return {"subscriptionType": "contact.propertyChange", "propertyName": name, "propertyValue": "x"}


def test_claimed_type_is_wanted() -> None:
    assert wants()


def test_unclaimed_type_is_not() -> None:
    assert not wants(subscriptionType="contact.merge")


def test_generic_dialect_of_a_claimed_type_is_wanted() -> None:
    assert wants(subscriptionType="object.creation", objectTypeId="0-1")


def test_only_the_claimed_property_is_wanted() -> None:
    assert (wants(**email()), wants(**email("city"))) == (True, False)


def test_object_stands_for_every_type() -> None:
    assert wants(subscriptionType="ticket.deletion")


def test_allowed_events_adds() -> None:
    assert wants(("contact.merge",), subscriptionType="contact.merge")


def test_allowed_events_adds_every_property() -> None:
    assert wants(("contact.propertyChange",), **email("city"))


def test_allowed_events_takes_away() -> None:
    assert not wants(("-contact.creation",))


def test_word_that_is_no_type_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError):
        AllowList(CLAIMS, ("everything",))


def test_answers_about_long_names_are_right_and_not_kept() -> None:
    allow_list = AllowList(CLAIMS, ("contact.propertyChange",))
    events = [Event(event(**email("x" * 70_000 + str(number)))) for number in range(3)]
    assert [allow_list.allows(one) for one in events] == [True] * 3
    assert not allow_list._cache
