"""handlers.routing: who would be called."""

import pytest

from conftest import event
from core.errors import ConfigurationError
from core.events import Event
from handlers.routing import Router, Uses, load_router, uses
from handlers.tools import Tools


async def first(event: Event, tools: Tools) -> None:
    """A handler."""


async def second(event: Event, tools: Tools) -> None:
    """Another."""


def change(name: str) -> Event:
    return Event(event(subscriptionType="contact.propertyChange", propertyName=name, propertyValue="x"))


def name_of(router: Router, event: Event) -> str | None:
    route = router.fetch(event)
    return route and route.name


def test_claimed_type_is_fetched() -> None:
    router = Router()
    router.register("contact.creation")(first)
    assert name_of(router, Event(event())) == "test_routing.first"


def test_unclaimed_type_has_no_handler() -> None:
    assert Router().fetch(Event(event())) is None


def test_claim_of_a_property_beats_the_claim_of_its_type() -> None:
    router = Router()
    router.register("contact.propertyChange")(first)
    router.register("contact.propertyChange", property="email")(second)
    assert (name_of(router, change("email")), name_of(router, change("city"))) == (
        "test_routing.second",
        "test_routing.first",
    )


def test_claim_of_a_type_beats_the_claim_of_every_object() -> None:
    router = Router()
    router.register("object.creation")(first)
    router.register("contact.creation")(second)
    custom = Event(event(subscriptionType="object.creation", objectTypeId="2-7"))
    assert (name_of(router, Event(event())), name_of(router, custom)) == ("test_routing.second", "test_routing.first")


def test_double_claim_is_refused_and_names_both() -> None:
    router = Router()
    router.register("contact.creation")(first)
    with pytest.raises(ConfigurationError, match=r"test_routing\.first and by test_routing\.second"):
        router.register("contact.creation")(second)


def test_joining_routers_that_claim_the_same_is_refused() -> None:
    one, other = Router(), Router()
    one.register("contact.creation")(first)
    other.register("contact.creation")(second)
    with pytest.raises(ConfigurationError):
        Router(one, other)


def test_handler_carries_what_it_declares() -> None:
    router = Router()
    router.register("contact.creation")(uses(reads={"contacts": ("phone",)}, may=("contacts.update",))(first))
    route = router.fetch(Event(event()))
    assert route is not None
    assert route.uses == Uses({"contacts": ("phone",)}, frozenset({"contacts.update"}))


def test_default_handlers_claim_what_the_readme_says() -> None:
    claims = load_router("handlers").claims
    assert {
        "contact.creation",
        "company.propertyChange:domain",
        "deal.propertyChange:dealstage",
        "contact.privacyDeletion",
    } <= claims


@pytest.mark.parametrize("package", ["no_such_package", "json"])
def test_package_without_a_router_is_a_configuration_error(package: str) -> None:
    with pytest.raises(ConfigurationError):
        load_router(package)
