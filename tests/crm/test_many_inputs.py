"""Calls for many inputs: batches of a hundred, results in the order of the inputs, one per input."""

import asyncio

import pytest
from redis.asyncio import Redis

from spokes.core.errors import (
    Conflict,
    CRMError,
    CRMUnavailable,
    InvalidRequest,
    NotAuthorized,
    NotPermitted,
    ObjectMerged,
    ObjectNotFound,
)
from spokes.core.settings import Settings
from spokes.crm.access import UnleasedContext
from spokes.crm.batching.errors import CreationUnreadable
from spokes.crm.objects import New
from spokes.crm.results import ItemResult, ItemResults
from spokes.crm.services import CRM
from spokes.simulator.api.faults import Fault
from tests.support.hubspot.crm_world import PORTAL, CRMWorld
from tests.support.hubspot.scripted_hubspot import RecordedRequest, ScriptedHubSpot, json_response

ALL = tuple(f"contacts.{name}" for name in ("create", "update", "upsert", "archive", "merge"))
PHONE = "+49301234567"


async def test_many_reads_are_split_at_a_hundred_and_keep_their_order(world: CRMWorld) -> None:
    ids = world.create_contacts(250)

    results = await world.services().contacts.get_many(reversed(ids))

    assert [item.result.id for item in results if item.result] == ids[::-1]
    assert world.calls == ["POST contacts/batch/read"] * 3


async def test_many_are_read_by_a_unique_property(world: CRMWorld) -> None:
    ids = world.create_contacts(2)

    results = await world.services().contacts.get_many_by("email", ["person1@example.org", "no@example.org"])

    assert [(item.id, item.result and item.result.id) for item in results] == [
        ("person1@example.org", ids[1]),
        ("no@example.org", None),
    ]
    assert world.calls == ["POST contacts/batch/read", "GET contacts/no@example.org"]


async def test_contact_is_read_by_a_further_address(world: CRMWorld) -> None:
    first, second = world.create_contacts(2)
    survivor = world.merge(first, second)

    results = await world.services().contacts.get_many_by("email", ["person0@example.org", "Person1@example.org"])

    assert [item.result.id for item in results if item.result] == [survivor, survivor]


async def test_other_unique_property_is_not_read_alone(world: CRMWorld) -> None:
    results = await world.services().contacts.get_many_by("customer_number", ["7"])

    assert isinstance(results[0].error, ObjectNotFound)
    assert world.calls == ["POST contacts/batch/read"]


async def test_failed_read_is_one_items_error(world: CRMWorld) -> None:
    ids = world.create_contacts(2)

    results = await world.services().contacts.get_many([ids[0], "1", ids[1]])

    assert [(item.id, item.ok) for item in results] == [(ids[0], True), ("1", False), (ids[1], True)]
    assert isinstance(results[1].error, ObjectNotFound)


async def test_merged_record_is_read_as_its_survivor(world: CRMWorld) -> None:
    first, second, third = world.create_contacts(3)
    survivor = world.merge(first, second)

    results = await world.services().contacts.get_many([first, second, third])

    assert [item.result.id for item in results if item.result] == [survivor, survivor, third]


async def test_many_creations_are_batched_and_each_has_its_own_result(world: CRMWorld) -> None:
    taken_id = world.create(email="taken@example.org")
    emails = [*(f"new{i}@example.org" for i in range(149)), "taken@example.org"]

    results = await world.services(*ALL).contacts.create_many(New({"email": email}) for email in emails)

    assert [world.find("contacts", item.result or "").properties["email"] for item in results[:149]] == emails[:149]  # type: ignore[union-attr]
    assert isinstance(results[149].error, Conflict)
    assert results[149].error.existing_id == taken_id
    assert world.calls == ["POST contacts/batch/create"] * 2


async def test_creations_of_many_callers_share_a_call_and_keep_their_associations(world: CRMWorld) -> None:
    contacts = world.create_contacts(3)
    services = world.services("notes.create", "associations.list")

    note_ids = await asyncio.gather(
        *(services.notes.create({"hs_note_body": i}, to={"contact": (i,)}) for i in contacts)
    )

    assert world.calls == ["POST notes/batch/create"]
    assert [await services.associations.list("contact", i, "notes") for i in contacts] == [
        (note_id,) for note_id in note_ids
    ]


async def test_many_engagements_have_a_timestamp_and_their_associations(world: CRMWorld) -> None:
    contacts = world.create_contacts(2)
    services = world.services("notes.create", "associations.list")

    results = await services.notes.create_many(New({"hs_note_body": "x"}, {"contact": (i,)}) for i in contacts)

    assert all(world.find("notes", item.result or "").properties["hs_timestamp"] for item in results)  # type: ignore[union-attr]
    assert [await services.associations.list("contact", i, "notes") for i in contacts] == [
        (item.result,) for item in results
    ]


async def test_invalid_value_costs_no_call_and_affects_no_other_item(world: CRMWorld) -> None:
    items = [New({"email": "not an address"}), New({"email": "a@example.org"})]

    results = await world.services(*ALL).contacts.create_many(items)

    assert [str(item.error or "") for item in results] == ["invalid_request EMAIL_INVALID contacts.email", ""]
    assert world.calls == ["POST contacts"]


async def test_many_updates_report_each_and_follow_merges(world: CRMWorld) -> None:
    first, second, third = world.create_contacts(3)
    survivor = world.merge(first, second)

    results = await world.services(*ALL).contacts.update_many((i, {"phone": PHONE}) for i in (first, "1", third))

    assert [(item.id, item.ok) for item in results] == [(first, True), ("1", False), (third, True)]
    assert isinstance(results[1].error, ObjectNotFound)
    assert [world.find("contacts", i).properties["phone"] for i in (survivor, third)] == [PHONE] * 2  # type: ignore[union-attr]


async def test_last_of_many_updates_of_one_object_wins(world: CRMWorld) -> None:
    (contact_id,) = world.create_contacts(1)

    results = await world.services(*ALL).contacts.update_many((contact_id, {"city": str(n)}) for n in range(4))

    assert [item.ok for item in results] == [True] * 4
    assert world.find("contacts", contact_id).properties["city"] == "3"  # type: ignore[union-attr]


async def test_many_upserts_create_and_update_in_one_call(world: CRMWorld) -> None:
    existing_id = world.create(customer_number="c-0")

    items = [(f"c-{n}", {"city": str(n)}) for n in range(3)]
    results = await world.services(*ALL).contacts.upsert_many("customer_number", items)

    assert results[0].result == existing_id
    assert [world.find("contacts", item.result or "").properties["city"] for item in results] == ["0", "1", "2"]  # type: ignore[union-attr]
    assert world.calls == ["POST contacts/batch/upsert"]


async def test_upserts_of_many_callers_share_a_call_and_a_bad_one_fails_alone(world: CRMWorld) -> None:
    contacts = world.services(*ALL).contacts
    upserts = (
        contacts.upsert("email", f"a{n}@example.org", {"hs_object_id" if n == 2 else "city": "1"}) for n in range(4)
    )

    outcomes = await asyncio.gather(*upserts, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [str, str, InvalidRequest, str]


async def test_many_archivings_share_calls_and_are_verified(world: CRMWorld) -> None:
    ids = world.create_contacts(120)

    results = await world.services(*ALL).contacts.archive_many(ids)

    assert all(item.ok for item in results)
    assert all(world.find("contacts", i, archived=True) for i in ids)
    assert sorted(world.calls) == ["POST contacts/batch/archive"] * 2 + ["POST contacts/batch/read"] * 2


async def test_record_merged_since_it_was_read_is_written_to_only_after_another_read(
    world: CRMWorld,
) -> None:
    primary, merged = world.create(phone="+49301234567"), world.create(phone="030 7654321")
    contacts = world.services("contacts.update").contacts
    await contacts.get(merged)
    survivor = world.merge(primary, merged)
    with pytest.raises(ObjectMerged):
        await contacts.update(merged, phone="+49307654321")
    assert (await contacts.get(merged))["phone"] == "+49301234567"
    await contacts.update(merged, phone="+493011111111")
    record = world.find("contacts", survivor)
    assert record
    assert record.properties["phone"] == "+493011111111"
    assert [(write.object_id, write.ok) for write in world.writes] == [(merged, False), (survivor, True)]


async def test_merged_record_is_archived_as_its_survivor(world: CRMWorld) -> None:
    first, second, third = world.create_contacts(3)
    survivor = world.merge(first, second)

    results = await world.services(*ALL).contacts.archive_many([first, third])

    assert all(item.ok for item in results)
    assert world.find("contacts", survivor, archived=True)


async def test_missing_object_counts_as_archived(world: CRMWorld) -> None:
    results = await world.services(*ALL).contacts.archive_many(["1", *world.create_contacts(1)])

    assert [item.ok for item in results] == [True, True]


async def test_merge_returns_the_survivor(world: CRMWorld) -> None:
    first, second = world.create_contacts(2)

    survivor = await world.services(*ALL).contacts.merge(first, second)

    record = world.find("contacts", survivor)
    assert record
    assert set(record.properties["hs_merged_object_ids"].split(";")) == {first, second}
    assert [(w.method, w.object_id, w.ok) for w in world.writes] == [("contacts.merge", survivor, True)]


async def test_transient_failure_of_a_batch_is_each_items_error(world: CRMWorld) -> None:
    ids = world.create_contacts(2)
    world.sim.faults.add(Fault(status=503))

    results = await world.services(*ALL).contacts.update_many((i, {"phone": PHONE}) for i in ids)

    assert [type(item.error) for item in results] == [CRMUnavailable] * 2
    assert world.calls == ["POST contacts/batch/update"]


@pytest.mark.parametrize("name", ["create_many", "update_many", "archive_many", "get_many"])
async def test_undeclared_call_for_many_is_refused_as_a_whole(world: CRMWorld, name: str) -> None:
    with pytest.raises(NotPermitted):
        await getattr(world.services(reads={}).contacts, name)([])


@pytest.mark.parametrize(
    ("errors", "gravest"),
    [
        ((ObjectNotFound(), CRMUnavailable(), NotAuthorized()), NotAuthorized),
        ((None, ObjectNotFound(), CRMUnavailable()), CRMUnavailable),
        ((None, ObjectNotFound()), ObjectNotFound),
    ],
)
def test_raise_for_errors_raises_the_gravest(errors: tuple[CRMError | None, ...], gravest: type[CRMError]) -> None:
    results = ItemResults(ItemResult("1", None, error) for error in errors)

    with pytest.raises(gravest):
        results.raise_for_errors()


def test_raise_for_errors_returns_without_errors() -> None:
    ItemResults([ItemResult("1", "x")]).raise_for_errors()


async def test_creation_without_trace_in_the_response_is_unknown(redis: Redis) -> None:
    """Assigning the two results would be a guess, and a wrong id is worse than none."""

    def respond(request: RecordedRequest) -> object:
        return json_response(
            {"results": [{"id": str(n), "properties": {}} for n, _ in enumerate(request.body["inputs"])]}
        )

    async with ScriptedHubSpot(respond, portal_id=PORTAL) as hubspot:  # type: ignore[arg-type]
        settings = Settings(hubspot_api_url=hubspot.url, hubspot_access_token="not-a-real-token", audit_key="k" * 32)  # type: ignore[arg-type]
        crm = await CRM.open(settings, redis)
        services = crm.handler_services(PORTAL, "contact", {}, frozenset(ALL), UnleasedContext())
        results = await services.contacts.create_many([New({"city": "a"}), New({"city": "b"})])
        await crm.close()

    assert [type(item.error) for item in results] == [CreationUnreadable] * 2


async def test_many_are_written_by_a_mapping(world: CRMWorld) -> None:
    first, second = world.create_contacts(2)
    contacts = world.services(*ALL, reads={"contacts": ("email", "city")}).contacts

    await contacts.update_many({first: {"city": "Bonn"}, second: {"city": "Ulm"}})
    upserted = await contacts.upsert_many("email", {"person0@example.org": {"zip": "53111"}})

    read = await contacts.get_many((first, second))
    assert [item.result and item.result["city"] for item in read] == ["Bonn", "Ulm"]
    assert upserted[0].result == first


async def test_single_text_is_one_input(world: CRMWorld) -> None:
    (first,) = world.create_contacts(1)
    contacts = world.services(*ALL, reads={"contacts": ("email", "city")}).contacts

    assert [item.id for item in await contacts.get_many(first)] == [first]
    assert len(await contacts.get_many_by("email", "person0@example.org")) == 1
    assert [item.ok for item in await contacts.archive_many(first)] == [True]
