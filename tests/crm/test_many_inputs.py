"""The forms for many: split at a hundred, kept in order, each input with a fate of its own."""

import asyncio
from collections.abc import AsyncIterator

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
from spokes.crm.objects import New
from spokes.crm.results import ItemResult, ItemResults
from spokes.crm.services import CRM
from spokes.simulator.api.faults import Fault
from tests.support.crm_world import PORTAL, CRMWorld, open_world
from tests.support.scripted_hubspot import RecordedRequest, ScriptedHubSpot, json_response

ALL = tuple(f"contacts.{name}" for name in ("create", "update", "upsert", "archive", "merge"))
PHONE = "+49301234567"


@pytest.fixture
async def world(redis: Redis) -> AsyncIterator[CRMWorld]:
    async with open_world(redis) as world:
        yield world


async def test_many_reads_are_split_at_a_hundred_and_keep_their_order(world: CRMWorld) -> None:
    ids = world.create_contacts(250)

    fates = await world.services().contacts.get_many(reversed(ids))

    assert [fate.result.id for fate in fates if fate.result] == ids[::-1]
    assert world.calls == ["POST contacts/batch/read"] * 3


async def test_many_are_read_by_a_unique_property(world: CRMWorld) -> None:
    ids = world.create_contacts(2)

    fates = await world.services().contacts.get_many_by("email", ["person1@example.org", "no@example.org"])

    assert [(fate.id, fate.result and fate.result.id) for fate in fates] == [
        ("person1@example.org", ids[1]),
        ("no@example.org", None),
    ]
    assert world.calls == ["POST contacts/batch/read"]


async def test_read_that_fails_is_the_fate_of_one(world: CRMWorld) -> None:
    ids = world.create_contacts(2)

    fates = await world.services().contacts.get_many([ids[0], "1", ids[1]])

    assert [(fate.id, fate.ok) for fate in fates] == [(ids[0], True), ("1", False), (ids[1], True)]
    assert isinstance(fates[1].error, ObjectNotFound)


async def test_record_that_was_merged_away_is_read_as_its_survivor(world: CRMWorld) -> None:
    first, second, third = world.create_contacts(3)
    survivor = world.merge(first, second)

    fates = await world.services().contacts.get_many([first, second, third])

    assert [fate.result.id for fate in fates if fate.result] == [survivor, survivor, third]


async def test_many_creations_are_batches_in_which_each_has_its_own_fate(world: CRMWorld) -> None:
    taken = world.create(email="taken@example.org")
    emails = [*(f"new{i}@example.org" for i in range(149)), "taken@example.org"]

    fates = await world.services(*ALL).contacts.create_many(New({"email": email}) for email in emails)

    assert [world.find("contacts", fate.result or "").properties["email"] for fate in fates[:149]] == emails[:149]  # type: ignore[union-attr]
    assert isinstance(fates[149].error, Conflict)
    assert fates[149].error.existing_id == taken
    assert world.calls == ["POST contacts/batch/create"] * 2


async def test_creations_of_many_callers_share_a_call_and_keep_their_records(world: CRMWorld) -> None:
    contacts = world.create_contacts(3)
    services = world.services("notes.create", "associations.list")

    made = await asyncio.gather(*(services.notes.create({"hs_note_body": i}, to={"contact": (i,)}) for i in contacts))

    assert world.calls == ["POST notes/batch/create"]
    assert [await services.associations.list("contact", i, "notes") for i in contacts] == [(note,) for note in made]


async def test_many_engagements_have_their_moment_and_their_records(world: CRMWorld) -> None:
    contacts = world.create_contacts(2)
    services = world.services("notes.create", "associations.list")

    fates = await services.notes.create_many(New({"hs_note_body": "x"}, {"contact": (i,)}) for i in contacts)

    assert all(world.find("notes", fate.result or "").properties["hs_timestamp"] for fate in fates)  # type: ignore[union-attr]
    assert [await services.associations.list("contact", i, "notes") for i in contacts] == [(f.result,) for f in fates]


async def test_value_that_is_refused_costs_no_call_and_no_other(world: CRMWorld) -> None:
    items = [New({"email": "not an address"}), New({"email": "a@example.org"})]

    fates = await world.services(*ALL).contacts.create_many(items)

    assert [str(fate.error or "") for fate in fates] == ["invalid_request EMAIL_INVALID", ""]
    assert world.calls == ["POST contacts"]


async def test_many_updates_report_each_and_follow_merges(world: CRMWorld) -> None:
    first, second, third = world.create_contacts(3)
    survivor = world.merge(first, second)

    fates = await world.services(*ALL).contacts.update_many((i, {"phone": PHONE}) for i in (first, "1", third))

    assert [(fate.id, fate.ok) for fate in fates] == [(first, True), ("1", False), (third, True)]
    assert isinstance(fates[1].error, ObjectNotFound)
    assert [world.find("contacts", i).properties["phone"] for i in (survivor, third)] == [PHONE] * 2  # type: ignore[union-attr]


async def test_updates_of_one_object_in_one_call_for_many_end_with_the_last(world: CRMWorld) -> None:
    (contact_id,) = world.create_contacts(1)

    fates = await world.services(*ALL).contacts.update_many((contact_id, {"city": str(n)}) for n in range(4))

    assert [fate.ok for fate in fates] == [True] * 4
    assert world.find("contacts", contact_id).properties["city"] == "3"  # type: ignore[union-attr]


async def test_many_upserts_make_and_set_in_one_call(world: CRMWorld) -> None:
    there = world.create(customer_number="c-0")

    items = [(f"c-{n}", {"city": str(n)}) for n in range(3)]
    fates = await world.services(*ALL).contacts.upsert_many("customer_number", items)

    assert fates[0].result == there
    assert [world.find("contacts", fate.result or "").properties["city"] for fate in fates] == ["0", "1", "2"]  # type: ignore[union-attr]
    assert world.calls == ["POST contacts/batch/upsert"]


async def test_upserts_of_many_callers_share_a_call_and_one_bad_one_fails_alone(world: CRMWorld) -> None:
    contacts = world.services(*ALL).contacts
    asks = (
        contacts.upsert("email", f"a{n}@example.org", {"hs_object_id" if n == 2 else "city": "1"}) for n in range(4)
    )

    answers = await asyncio.gather(*asks, return_exceptions=True)

    assert [type(answer) for answer in answers] == [str, str, InvalidRequest, str]


async def test_archivings_of_many_callers_share_a_call_and_are_checked(world: CRMWorld) -> None:
    ids = world.create_contacts(120)

    fates = await world.services(*ALL).contacts.archive_many(ids)

    assert all(fate.ok for fate in fates)
    assert all(world.find("contacts", i, archived=True) for i in ids)
    assert sorted(world.calls) == ["POST contacts/batch/archive"] * 2 + ["POST contacts/batch/read"] * 2


async def test_record_that_was_merged_since_it_was_read_is_written_to_only_after_another_reading(
    world: CRMWorld,
) -> None:
    kept, gone = world.create(phone="+49301234567"), world.create(phone="030 7654321")
    contacts = world.services("contacts.update").contacts
    await contacts.get(gone)
    survivor = world.merge(kept, gone)
    with pytest.raises(ObjectMerged):
        await contacts.update(gone, phone="+49307654321")
    assert (await contacts.get(gone))["phone"] == "+49301234567"
    await contacts.update(gone, phone="+493011111111")
    found = world.find("contacts", survivor)
    assert found
    assert found.properties["phone"] == "+493011111111"
    assert [(write.object_id, write.ok) for write in world.writes] == [(gone, False), (survivor, True)]


async def test_record_that_was_merged_away_is_archived_as_its_survivor(world: CRMWorld) -> None:
    first, second, third = world.create_contacts(3)
    survivor = world.merge(first, second)

    fates = await world.services(*ALL).contacts.archive_many([first, third])

    assert all(fate.ok for fate in fates)
    assert world.find("contacts", survivor, archived=True)


async def test_what_is_not_there_is_archived_already(world: CRMWorld) -> None:
    fates = await world.services(*ALL).contacts.archive_many(["1", *world.create_contacts(1)])

    assert [fate.ok for fate in fates] == [True, True]


async def test_merge_returns_the_survivor(world: CRMWorld) -> None:
    first, second = world.create_contacts(2)

    survivor = await world.services(*ALL).contacts.merge(first, second)

    record = world.find("contacts", survivor)
    assert record
    assert set(record.properties["hs_merged_object_ids"].split(";")) == {first, second}
    assert [(w.method, w.object_id, w.ok) for w in world.writes] == [("contacts.merge", survivor, True)]


async def test_batch_that_failed_for_a_time_is_the_fate_of_each(world: CRMWorld) -> None:
    ids = world.create_contacts(2)
    world.sim.faults.add(Fault(status=503))

    fates = await world.services(*ALL).contacts.update_many((i, {"phone": PHONE}) for i in ids)

    assert [type(fate.error) for fate in fates] == [CRMUnavailable] * 2
    assert world.calls == ["POST contacts/batch/update"]


@pytest.mark.parametrize("name", ["create_many", "update_many", "archive_many", "get_many"])
async def test_what_was_not_declared_is_refused_as_a_whole(world: CRMWorld, name: str) -> None:
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
def test_who_insists_on_all_learns_the_gravest(errors: tuple[CRMError | None, ...], gravest: type[CRMError]) -> None:
    fates = ItemResults(ItemResult("1", None, error) for error in errors)

    with pytest.raises(gravest):
        fates.raise_for_errors()


def test_who_insists_on_all_goes_on_when_all_was_done() -> None:
    ItemResults([ItemResult("1", "x")]).raise_for_errors()


async def test_creation_whose_answer_names_no_trace_is_not_taken_for_made(redis: Redis) -> None:
    """Which of two answers belongs to whom would be a guess, and a wrong id is worse than none."""

    def respond(asked: RecordedRequest) -> object:
        return json_response(
            {"results": [{"id": str(n), "properties": {}} for n, _ in enumerate(asked.body["inputs"])]}
        )

    async with ScriptedHubSpot(respond) as hubspot:  # type: ignore[arg-type]
        settings = Settings(hubspot_api_url=hubspot.url, hubspot_access_token="t", audit_key="k" * 32)  # type: ignore[arg-type]
        crm = await CRM.open(settings, redis)
        services = crm.handler_services(PORTAL, "contact", {}, frozenset(ALL), UnleasedContext())
        fates = await services.contacts.create_many([New({"city": "a"}), New({"city": "b"})])
        await crm.close()

    assert [type(fate.error) for fate in fates] == [CRMUnavailable] * 2
