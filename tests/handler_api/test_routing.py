"""spokes.routing: which handler an event is routed to."""

import sys
from typing import Any

import pytest

from spokes.core.errors import ConfigurationError
from spokes.core.events import Event
from spokes.routing import Router, Uses, load_router, uses
from spokes.tools import Tools
from tests.support.events import event


async def first(event: Event, tools: Tools) -> None:
    """One handler."""


async def second(event: Event, tools: Tools) -> None:
    """Another handler."""


def change(name: str) -> Event:
    return Event(event(subscriptionType="contact.propertyChange", propertyName=name, propertyValue="x"))


def name_of(router: Router, event: Event) -> str | None:
    route = router.match(event)
    return route and route.name


def test_registered_type_is_matched() -> None:
    router = Router()
    router.register("contact.creation")(first)
    assert name_of(router, Event(event())) == "test_routing.first"


def test_matched_registrations_are_those_whose_handler_an_event_has() -> None:
    parts = Router()
    parts.register("contact.propertyChange", property="email")(first)
    parts.register("contact.propertyChange")(second)
    parts.register("object.creation")(first)
    router = Router(parts)
    assert router.matched_registrations == frozenset()
    for event_ in (change("email"), change("email"), Event(event())):
        router.match(event_)
    assert router.matched_registrations == {"contact.propertyChange:email", "object.creation"}


def test_unregistered_type_has_no_handler() -> None:
    assert Router().match(Event(event())) is None


def test_registration_for_a_property_beats_the_one_for_its_type() -> None:
    router = Router()
    router.register("contact.propertyChange")(first)
    router.register("contact.propertyChange", property="email")(second)
    assert (name_of(router, change("email")), name_of(router, change("city"))) == (
        "test_routing.second",
        "test_routing.first",
    )


def test_registration_for_a_type_beats_the_one_for_all_objects() -> None:
    router = Router()
    router.register("object.creation")(first)
    router.register("contact.creation")(second)
    custom = Event(event(subscriptionType="object.creation", objectTypeId="2-7"))
    assert (name_of(router, Event(event())), name_of(router, custom)) == ("test_routing.second", "test_routing.first")


def test_handlers_of_an_event_come_in_the_order_of_the_routers() -> None:
    one, other = Router(), Router()
    one.register("contact.creation")(first)
    other.register("contact.creation")(second)
    router = Router(other, one)
    assert [route.name for route in router.match_all(Event(event()))] == ["test_routing.second", "test_routing.first"]
    assert [(name, route.name) for name, route in router] == [
        ("contact.creation", "test_routing.second"), ("contact.creation", "test_routing.first"),
    ]  # fmt: skip
    assert (one.has_shared_events, router.has_shared_events) == (False, True)


def test_router_that_is_part_of_two_others_is_combined_once() -> None:
    part = Router()
    part.register("contact.creation")(first)
    router = Router(Router(part), Router(part))
    assert [route.name for route in router.match_all(Event(event()))] == ["test_routing.first"]


def test_second_registration_of_a_handler_for_an_event_is_refused_with_its_place() -> None:
    router = Router()
    router.register("contact.creation")(first)
    with pytest.raises(ConfigurationError, match=r"test_routing\.py:\d+: test_routing\.first is registered twice"):
        router.register("contact.creation")(first)


@pytest.mark.parametrize("other_event", ["contact.creation", "deal.creation"])
def test_two_handlers_of_one_name_are_refused_with_both_places(other_event: str) -> None:
    def handler() -> Any:
        async def namesake(event: Event, tools: Tools) -> None:
            del event, tools

        return namesake

    router = Router()
    router.register("contact.creation")(handler())
    places = r"called test_routing\.namesake: .*test_routing\.py:\d+ and .*test_routing\.py:\d+\. "
    with pytest.raises(ConfigurationError, match=places):
        router.register(other_event)(handler())


def test_route_has_the_declaration_of_its_handler() -> None:
    router = Router()

    @router.register("contact.creation")
    @uses(reads={"contacts": ("phone",)}, may=("contacts.update",))
    async def handler(event: Event, tools: Tools) -> None:
        del event, tools

    route = router.match(Event(event()))
    assert route is not None
    assert route.uses == Uses({"contacts": ("phone",)}, frozenset({"contacts.update"}))


@pytest.mark.parametrize(
    ("may", "allowed"),
    [
        (("contacts.update_many", "deals.create"), {"contacts.update", "deals.create"}),
        (("contacts.get", "deals.search_all"), set()),
        (("associations.labels", "associations.remove_label"), {"associations.list", "associations.remove"}),
        (("privacy.gdpr_delete",), {"privacy.delete"}),
        (("objects.archive", "2-123.upsert_many"), {"objects.archive", "2-123.upsert"}),
    ],
)
def test_method_may_be_declared_by_any_of_its_names(may: tuple[str, ...], allowed: set[str]) -> None:
    router = Router()

    @router.register("contact.creation")
    @uses(may=may)
    async def handler(event: Event, tools: Tools) -> None:
        del event, tools

    route = router.match(Event(event()))
    assert route is not None
    assert route.uses.may == allowed


@pytest.mark.parametrize("method", ["contacts.updat", "update", "associations.create", "privacy.get", ""])
def test_unknown_method_is_refused_with_a_list_of_methods(method: str) -> None:
    with pytest.raises(ConfigurationError, match=r"which is no method\..* Valid methods: \w+\.\w+, "):
        uses(may=(method,))


@pytest.mark.parametrize("declaration", [{"may": "contacts.update"}, {"reads": {"contacts": "phone"}}])
def test_string_in_place_of_a_tuple_is_refused(declaration: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="takes a tuple"):
        uses(**declaration)


def test_declaration_above_the_registration_is_refused() -> None:
    registered = Router().register("contact.creation")(first)
    with pytest.raises(ConfigurationError, match="put @uses below"):
        uses(may=("contacts.update",))(registered)


def test_handler_must_be_a_coroutine_function() -> None:
    def handler(event: Event, tools: Tools) -> None:
        del event, tools

    with pytest.raises(ConfigurationError, match="async def handler"):
        Router().register("contact.creation")(handler)  # type: ignore[arg-type]  # on purpose


def test_default_handlers_have_the_registrations_in_the_readme() -> None:
    claims = load_router("handlers").registrations
    assert {
        "contact.creation",
        "company.propertyChange:domain",
        "deal.propertyChange:dealstage",
        "contact.privacyDeletion",
    } <= claims


def test_library_that_handlers_names_by_mistake_stays_loaded() -> None:
    with pytest.raises(ConfigurationError):
        load_router("json")
    assert "json.decoder" in sys.modules  # without it, json.loads of text that is no JSON raises SystemError


@pytest.mark.parametrize("package", ["no_such_package", "json"])
def test_package_without_a_router_is_a_configuration_error(package: str) -> None:
    with pytest.raises(ConfigurationError):
        load_router(package)
