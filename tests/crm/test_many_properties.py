"""Handlers that declare more properties than a URL holds, of which the simulator reads 8,190 bytes."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from spokes.core.errors import InvalidRequest
from spokes.crm.search import where
from tests.support.hubspot.crm_world import ANY_PROPERTY, CRMWorld, open_world

NAMES = tuple(f"a_property_with_a_rather_long_name_{number}" for number in range(900))
MANY = {"contacts": NAMES}


@pytest.fixture
async def world(redis: Redis) -> AsyncIterator[CRMWorld]:
    async with open_world(redis, ANY_PROPERTY) as opened:
        yield opened


async def test_list_reads_ids_by_page_and_properties_in_batches(world: CRMWorld) -> None:
    ids = [world.create(**{NAMES[-1]: str(number)}) for number in range(150)]

    records = [record async for record in world.services(reads=MANY).contacts.list()]

    assert [(record.id, record[NAMES[-1]], record[NAMES[0]]) for record in records] == [
        (object_id, str(number), "") for number, object_id in enumerate(ids)
    ]
    assert world.calls == ["GET contacts", "POST contacts/batch/read"] * 2


async def test_list_of_few_properties_takes_one_call_a_page(world: CRMWorld) -> None:
    world.create_contacts(2)

    assert len([record async for record in world.services().contacts.list()]) == 2
    assert world.calls == ["GET contacts"]


async def test_merged_record_is_read_by_its_present_id(world: CRMWorld) -> None:
    first, second = world.create(**{NAMES[-1]: "x"}), world.create()
    survivor = world.merge(first, second)

    record = await world.services(reads=MANY).contacts.get(first)

    assert (record.id, record[NAMES[-1]]) == (survivor, "x")
    assert world.calls == ["POST contacts/batch/read", f"GET contacts/{first}", "POST contacts/batch/read"]


async def test_further_address_is_read_by_the_present_id(world: CRMWorld) -> None:
    survivor = world.merge(*world.create_contacts(2))

    assert (await world.services(reads=MANY).contacts.get_by("email", "person1@example.org")).id == survivor


async def test_id_longer_than_a_url_is_refused_before_the_call(world: CRMWorld) -> None:
    contact_id = world.create()
    contacts = world.services("contacts.archive").contacts
    with pytest.raises(InvalidRequest, match="URL_TOO_LONG"):
        await contacts.archive("9" * 10_000)

    await contacts.archive(contact_id)
    assert world.calls == [f"DELETE contacts/{contact_id}"]


async def test_search_lists_ids_and_reads_properties_in_batches(world: CRMWorld) -> None:
    ids = [world.create(**{NAMES[-1]: str(number)}) for number in range(3)]
    contacts = world.services(reads=MANY).contacts

    found = await contacts.search(where(NAMES[-1]).is_set(), sort="hs_object_id")
    all_found = [record async for record in contacts.search_all(where(NAMES[-1]).is_set())]

    assert [(record.id, record[NAMES[-1]]) for record in found] == [(i, str(n)) for n, i in enumerate(ids)]
    assert found == tuple(all_found)
