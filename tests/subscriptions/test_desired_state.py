"""What the router says that HubSpot must send and grant."""

import pytest

from spokes import Event, Router, Tools, uses
from spokes.core.errors import ConfigurationError
from spokes.core.settings import Settings
from spokes.subscriptions.desired_state import (
    desired_state,
    missing_scopes,
    preferred_scope,
    unreachable_public_url,
)
from spokes.subscriptions.subscribed_events import (
    SubscribedEvent,
    api_fields,
    event_of_api_fields,
    event_of_project_entry,
    project_entry,
)
from tests.subscriptions.desired import desired_of

EVENTS = (
    SubscribedEvent("contact", "creation"),
    SubscribedEvent("company", "propertyChange", "domain"),
    SubscribedEvent("line_item", "merge"),
    SubscribedEvent("product", "associationChange"),
    SubscribedEvent("payment", "creation"),
    SubscribedEvent("goal", "propertyChange", "hs_goal_name"),
    SubscribedEvent("meeting", "deletion"),
    SubscribedEvent("contact", "privacyDeletion"),
    SubscribedEvent("conversation", "newMessage"),
    SubscribedEvent("conversation", "propertyChange", "status"),
    SubscribedEvent("2-1234567", "propertyChange", "colour"),
    SubscribedEvent("0-999", "restore"),
)


def names(*registrations: str) -> list[str]:
    return sorted(str(event) for event in desired_of(*registrations).events)


def test_each_registration_is_an_event_with_its_property() -> None:
    registrations = ["2-1234567.propertyChange:colour", "contact.creation", "deal.propertyChange:amount"]
    assert names(*registrations) == registrations


def test_id_of_a_standard_type_is_its_name() -> None:
    assert names("0-3.deletion") == ["deal.deletion"]


def test_erasure_of_any_object_is_that_of_contacts_and_conversations() -> None:
    assert names("object.privacyDeletion") == ["contact.privacyDeletion", "conversation.privacyDeletion"]


def test_scope_has_the_place_and_the_declaration_that_need_it() -> None:
    router = Router()

    @router.register("deal.creation")
    @uses(reads={"deals": ("amount",)}, may=("deals.update",))
    async def follow_up(event: Event, tools: Tools) -> None: ...

    line = follow_up.__code__.co_firstlineno
    scopes = desired_state(router, Settings.from_env({})).scopes
    place = f"in tests/subscriptions/test_desired_state.py:{line}"
    assert scopes[frozenset({"crm.objects.deals.write"})] == (f"deals.update {place}",)
    assert scopes[frozenset({"crm.objects.deals.read"})] == (f"deal.creation {place}", f"reads deals {place}")


def test_registration_alone_needs_the_scope_to_read() -> None:
    assert {preferred_scope(each) for each in desired_of("ticket.creation", "line_item.merge").scopes} == {
        "tickets",
        "e-commerce",
    }
    assert list(missing_scopes(desired_of("conversation.newMessage").scopes, ())) == ["conversations.read"]


def test_either_alternative_of_a_scope_is_enough() -> None:
    assert missing_scopes(desired_of("ticket.creation").scopes, ["crm.objects.tickets.read"]) == {}


def test_handler_of_every_type_needs_no_scope_that_hubspot_does_not_have() -> None:
    desired = desired_of("object.creation", reads={"objects": ("name",), "contacts": ("email",)})
    assert [preferred_scope(each) for each in desired.scopes] == ["crm.objects.contacts.read"]


@pytest.mark.parametrize(
    ("registration", "reason"),
    [
        ("contact.propertyChange", "without a property"),
        ("object.creation", "names one object type"),
        ("object.propertyChange:email", "names one object type"),
        ("event.completed", "names a custom event"),
    ],
)
def test_registration_that_no_subscription_covers_is_named_with_its_place(registration: str, reason: str) -> None:
    desired = desired_of(registration, "deal.creation")
    assert [str(event) for event in desired.events] == ["deal.creation"]
    (gap,) = desired.gaps
    assert gap.startswith("tests/subscriptions/desired.py:")
    assert reason in gap


def test_target_is_the_receiver_behind_public_url() -> None:
    assert desired_of("deal.creation").target_url == "https://hooks.example.com/webhooks/hubspot"
    assert desired_of("deal.creation", public_url="").target_url == ""


def test_public_url_that_hubspot_does_not_call_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no https URL"):
        desired_of("deal.creation", public_url="http://hooks.example.com")


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://localhost:80", "http://[::1]:8080"])
def test_address_of_this_machine_is_no_target_and_is_named(url: str) -> None:
    assert desired_of("deal.creation", public_url=url).target_url == ""
    assert url in unreachable_public_url(Settings.from_env({"PUBLIC_URL": url}))
    assert unreachable_public_url(Settings.from_env({"PUBLIC_URL": "https://hooks.example.com"})) == ""


def test_router_without_handlers_is_refused_because_every_subscription_would_be_removed() -> None:
    with pytest.raises(ConfigurationError, match="no handlers"):
        desired_state(Router(), Settings.from_env({}))


def test_more_events_than_hubspot_allows_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="1001 events"):
        desired_of(*(f"contact.propertyChange:p{number}" for number in range(1001)))


@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_event_is_the_same_after_writing_it_for_a_project_and_for_the_api(event: SubscribedEvent) -> None:
    assert event_of_project_entry(project_entry(event)[1]) == event
    assert event_of_api_fields(api_fields(event)) == event


@pytest.mark.parametrize(
    ("entry", "registration"),
    [
        ({"subscriptionType": "object.creation", "objectType": "CONTACT"}, "contact.creation"),
        ({"subscriptionType": "object.creation", "objectType": "contacts"}, "contact.creation"),
        ({"subscriptionType": "object.creation", "objectType": "0-1"}, "contact.creation"),
        ({"subscriptionType": "object.creation", "objectName": "contact"}, "contact.creation"),
        ({"subscriptionType": "contact.creation"}, "contact.creation"),
        ({"subscriptionType": "object.creation", "objectType": "COMMERCE_PAYMENT"}, "payment.creation"),
        ({"subscriptionType": "deal.propertyChange", "propertyName": "amount"}, "deal.propertyChange:amount"),
    ],
)
def test_every_spelling_of_hubspot_is_the_same_event(entry: dict[str, object], registration: str) -> None:
    assert str(event_of_project_entry(entry)) == registration


@pytest.mark.parametrize("entry", [{}, {"subscriptionType": 1}, {"subscriptionType": "object.creation"}])
def test_entry_of_another_form_is_no_event(entry: dict[str, object]) -> None:
    assert event_of_project_entry(entry) is None
