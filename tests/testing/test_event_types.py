"""Every type of event, in both dialects, with HubSpot in the state that the event reports."""

import pytest

from spokes import Event, Router, Tools
from spokes.testing import Spokes

KINDS = ("creation", "deletion", "restore", "propertyChange", "associationChange", "merge", "privacyDeletion")
received: list[Event] = []
router = Router()


async def note(event: Event, tools: Tools) -> None:
    received.append(event)


for kind in KINDS:
    router.register(f"object.{kind}")(note)


@router.register("deal.propertyChange", property="amount")
async def first(event: Event, tools: Tools) -> None:
    received.append(event)


@router.register("deal.propertyChange", property="amount")
async def second(event: Event, tools: Tools) -> None:
    raise ValueError


@pytest.fixture
def spokes_handlers() -> Router:
    received.clear()
    return router


@pytest.mark.parametrize("object_type", ["contact", "company", "deal", "ticket", "task", "2-4711"])
@pytest.mark.parametrize("kind", ["creation", "deletion", "propertyChange"])
async def test_events_of_every_object_type_reach_the_handler(spokes: Spokes, object_type: str, kind: str) -> None:
    record = await spokes.hubspot.objects(object_type).create()
    name = "hs_priority" if kind == "propertyChange" else None
    run = await spokes.deliver(f"{object_type}.{kind}", record, property=name)
    assert run.outcome == "processed"
    assert [(event.type, event.object_id) for event in received] == [(f"{object_type}.{kind}", record.id)]


async def test_generic_dialect_is_sent_on_request(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create(city="Bonn")
    run = await spokes.deliver("object.propertyChange", ada, property="city")
    (element,) = run.events
    assert (element["subscriptionType"], element["objectTypeId"]) == ("object.propertyChange", "0-1")
    assert (received[0].type, received[0].property_value) == ("contact.propertyChange", "Bonn")
    again = spokes.event_json("contact.creation", ada, dialect="generic")
    assert again["subscriptionType"] == "object.creation"


async def test_new_value_is_written_before_it_is_reported(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create(city="Bonn")
    await spokes.deliver("contact.propertyChange", ada, property="city", value="Berlin")
    assert (received[0].property_value, ada["city"]) == ("Berlin", "Berlin")


async def test_deletion_archives_and_restore_restores(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create()
    await spokes.deliver("contact.deletion", ada)
    assert (ada.exists, ada.is_archived) == (False, True)
    await spokes.deliver("contact.restore", ada)
    assert ada.exists
    assert [event.kind for event in received] == ["deletion", "restore"]


async def test_merge_reports_the_ids_that_are_gone(spokes: Spokes) -> None:
    ada, double = [await spokes.hubspot.contacts.create(city=city) for city in ("Bonn", "Berlin")]
    run = await spokes.merge(ada, double)
    survivor = spokes.hubspot.contacts[double.id]
    assert run.outcome == "processed"
    assert received[0].survivor_id == survivor.id
    assert set(received[0].merged_ids) == {ada.id, double.id}
    assert survivor["city"] == "Bonn"


async def test_erasure_leaves_nothing_in_hubspot(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create()
    run = await spokes.erase(ada)
    assert (run.outcome, received[0].type, len(spokes.hubspot.contacts)) == ("processed", "contact.privacyDeletion", 0)


async def test_association_change_associates_the_records(spokes: Spokes) -> None:
    ada, acme = await spokes.hubspot.contacts.create(), await spokes.hubspot.companies.create(name="Acme")
    await spokes.deliver("contact.associationChange", ada, to=acme)
    assert received[0].association_target == ("company", acme.id)
    assert spokes.hubspot.associated(ada, "companies") == [acme]


async def test_fields_of_the_event_can_be_replaced(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create()
    await spokes.deliver("contact.creation", ada, source="IMPORT", sourceId="userId:1", changeFlag=None)
    assert (received[0].change_source, received[0].source_id) == ("IMPORT", "userId:1")
    assert "changeFlag" not in received[0].raw


async def test_events_of_one_request_are_delivered_together(spokes: Spokes) -> None:
    ada, bob = [await spokes.hubspot.contacts.create() for _ in range(2)]
    run = await spokes.deliver_json(*(spokes.event_json("contact.creation", record) for record in (ada, bob)))
    assert (run.admission["admitted"], run.outcome, run.attempts) == (2, "processed", 2)


async def test_each_handler_of_an_event_has_its_own_outcome(spokes: Spokes) -> None:
    deal = await spokes.hubspot.deals.create(amount=10)
    run = await spokes.deliver("deal.propertyChange", deal, property="amount")
    assert run.outcomes == {"test_event_types.first": "processed", "test_event_types.second": "dead"}
    with pytest.raises(AssertionError, match=r"several outcomes, see run.outcomes \(test_event_types"):
        assert run.outcome


@pytest.mark.parametrize(
    ("event_type", "options", "sentence"),
    [
        ("contact.deleted", {}, "is no event type"),
        ("deal.creation", {}, "is no event of <contacts"),
        ("contact.propertyChange", {}, "needs property=..., the name"),
        ("contact.creation", {"property": "city"}, "property=... belongs to propertyChange"),
        ("contact.associationChange", {}, "needs to=..., the record"),
        ("contact.creation", {"value": "x"}, "value=... belongs to propertyChange"),
        ("contact.creation", {"dialect": "old"}, "write classic or generic"),
        ("contact.merge", {}, "use `await spokes.merge"),
        ("contact.propertyChange", {"property": "hs_object_id"}, "HubSpot sends no event"),
        ("object.privacyDeletion", {}, "HubSpot sends no event"),
    ],
)
async def test_event_that_hubspot_does_not_send_is_refused(
    spokes: Spokes, event_type: str, options: dict[str, str], sentence: str
) -> None:
    ada = await spokes.hubspot.contacts.create()
    with pytest.raises(ValueError, match=sentence):
        await spokes.deliver(event_type, ada, **options)  # type: ignore[arg-type]


async def test_own_properties_are_defined_before_they_are_written(spokes: Spokes) -> None:
    with pytest.raises(Exception, match="favourite_colour"):
        await spokes.hubspot.contacts.create(favourite_colour="red")
    spokes.hubspot.schema.add("contacts", "favourite_colour")
    ada = await spokes.hubspot.contacts.create(favourite_colour="red")
    assert ada["favourite_colour"] == "red"


async def test_refused_property_is_logged_with_the_line_that_adds_it(
    spokes: Spokes, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Exception, match="PROPERTY_DOESNT_EXIST"):
        await spokes.hubspot.contacts.create(favourite_colour="red")
    assert "spokes.hubspot.schema.add('contacts', 'favourite_colour')" in caplog.text


async def test_schema_of_a_test_has_unique_and_read_only_properties_and_further_options(spokes: Spokes) -> None:
    spokes.hubspot.schema.add("contacts", "erp_id", unique=True)
    spokes.hubspot.schema.add("contacts", "total", "number", read_only=True)
    spokes.hubspot.schema.add_options("deals", "dealstage", "won_again")
    await spokes.hubspot.deals.create(dealstage="won_again")
    await spokes.hubspot.contacts.create(erp_id="E7")
    for refused, code in (({"erp_id": "E7"}, "already has that value"), ({"total": 1}, "READ_ONLY_VALUE")):
        with pytest.raises(Exception, match=code):
            await spokes.hubspot.contacts.create(refused)


async def test_schema_of_a_test_is_gone_in_the_next(spokes: Spokes) -> None:
    with pytest.raises(Exception, match="PROPERTY_DOESNT_EXIST"):
        await spokes.hubspot.contacts.create(erp_id="E7")
