"""Associations: labels are listed, added beside those that are there, and taken away one by one."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from spokes.core.errors import NotPermitted
from spokes.crm.associations import Label
from tests.support.crm_world import CRMWorld, open_world

PRIMARY = Label(1, "HUBSPOT_DEFINED", "Primary")
PAIR = ("contacts", "companies")


@pytest.fixture
async def world(redis: Redis) -> AsyncIterator[CRMWorld]:
    async with open_world(redis) as world:
        yield world


@pytest.fixture
def ids(world: CRMWorld) -> tuple[str, str]:
    return world.create(email="a@example.org"), world.create("companies", name="x")


def label_of(world: CRMWorld, text: str) -> Label:
    """A label that a user made."""
    types = world.sim.crm.types
    made = world.sim.crm.associations.types.define_label(*map(types.resolve, PAIR), text)
    return Label(made.spec.type_id, made.spec.category, text)


def texts(labels: tuple[Label, ...]) -> set[str | None]:
    return {label.text for label in labels}


ALL = ("associations.list", "associations.associate", "associations.remove")


async def test_records_are_associated_and_parted(world: CRMWorld, ids: tuple[str, str]) -> None:
    associations = world.services(*ALL).associations

    await associations.associate("contacts", ids[0], "companies", ids[1])
    together = await associations.list("company", ids[1], "contact")
    await associations.remove("contacts", ids[0], "companies", ids[1])

    assert together == (ids[0],)
    assert await associations.list("contacts", ids[0], "companies") == ()
    assert [(w.method, w.object_type, w.object_id) for w in world.writes] == [
        ("associations.associate", "contact", ids[0]),
        ("associations.remove", "contact", ids[0]),
    ]


async def test_association_shows_all_its_labels(world: CRMWorld, ids: tuple[str, str]) -> None:
    associations, buyer = world.services(*ALL).associations, label_of(world, "Buyer")

    await associations.associate("contact", ids[0], "company", ids[1], PRIMARY, buyer)

    (end,) = await associations.list_labelled("contact", ids[0], "company")
    assert end.id == ids[1]
    assert texts(end.labels) == {None, "Primary", "Buyer"}


async def test_new_label_keeps_those_that_are_there(world: CRMWorld, ids: tuple[str, str]) -> None:
    associations, buyer, user = world.services(*ALL).associations, label_of(world, "Buyer"), label_of(world, "User")

    await associations.associate("contact", ids[0], "company", ids[1], buyer)
    await associations.associate("contact", ids[0], "company", ids[1], user)

    (end,) = await associations.list_labelled("contact", ids[0], "company")
    assert texts(end.labels) == {"Buyer", "User"}


async def test_plain_association_stays_beside_a_label(world: CRMWorld, ids: tuple[str, str]) -> None:
    associations = world.services(*ALL).associations

    await associations.associate("contact", ids[0], "company", ids[1])
    await associations.associate("contact", ids[0], "company", ids[1], label_of(world, "Buyer"))

    (end,) = await associations.list_labelled("contact", ids[0], "company")
    assert texts(end.labels) == {None, "Buyer"}


async def test_one_label_goes_and_the_others_stay(world: CRMWorld, ids: tuple[str, str]) -> None:
    associations, buyer, user = world.services(*ALL).associations, label_of(world, "Buyer"), label_of(world, "User")
    await associations.associate("contact", ids[0], "company", ids[1], buyer, user)

    await associations.remove_label("contact", ids[0], "company", ids[1], buyer)

    (end,) = await associations.list_labelled("contact", ids[0], "company")
    assert texts(end.labels) == {"User"}


async def test_portals_labels_are_listed(world: CRMWorld) -> None:
    buyer = label_of(world, "Buyer")

    labels = await world.services(*ALL).associations.labels(*PAIR)

    assert {PRIMARY, buyer} <= set(labels)


async def test_record_that_was_merged_away_has_its_survivors_associations(
    world: CRMWorld, ids: tuple[str, str]
) -> None:
    associations = world.services(*ALL).associations
    await associations.associate("contact", ids[0], "company", ids[1])
    world.merge(world.create(email="b@example.org"), ids[0])

    assert await associations.list("contact", ids[0], "company") == (ids[1],)


async def test_label_is_added_only_where_it_was_declared(world: CRMWorld, ids: tuple[str, str]) -> None:
    with pytest.raises(NotPermitted):
        await world.services("associations.list").associations.associate("contact", ids[0], "company", ids[1], PRIMARY)

    assert world.calls == []
