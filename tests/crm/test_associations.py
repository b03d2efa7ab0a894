"""Listing associations and their labels, adding labels to those present, and removing single ones."""

import pytest

from spokes.core.errors import NotPermitted
from spokes.crm.associations import Label
from tests.support.hubspot.crm_world import CRMWorld

PRIMARY = Label(1, "HUBSPOT_DEFINED", "Primary")
PAIR = ("contacts", "companies")


@pytest.fixture
def ids(world: CRMWorld) -> tuple[str, str]:
    return world.create(email="a@example.org"), world.create("companies", name="x")


def label_of(world: CRMWorld, text: str) -> Label:
    """Define a label as a user does."""
    types = world.sim.crm.types
    defined = world.sim.crm.associations.types.define_label(*map(types.resolve, PAIR), text)
    return Label(defined.spec.type_id, defined.spec.category, text)


def texts(labels: tuple[Label, ...]) -> set[str | None]:
    return {label.text for label in labels}


ALL = ("associations.list", "associations.associate", "associations.remove")


async def test_two_records_are_associated_and_the_association_removed(world: CRMWorld, ids: tuple[str, str]) -> None:
    associations = world.services(*ALL).associations

    await associations.associate("contacts", ids[0], "companies", ids[1])
    associated_ids = await associations.list("company", ids[1], "contact")
    await associations.remove("contacts", ids[0], "companies", ids[1])

    assert associated_ids == (ids[0],)
    assert await associations.list("contacts", ids[0], "companies") == ()
    assert [(w.method, w.object_type, w.object_id) for w in world.writes] == [
        ("associations.associate", "contact", ids[0]),
        ("associations.remove", "contact", ids[0]),
    ]


async def test_association_shows_all_its_labels(world: CRMWorld, ids: tuple[str, str]) -> None:
    associations, buyer = world.services(*ALL).associations, label_of(world, "Buyer")

    await associations.associate("contact", ids[0], "company", ids[1], PRIMARY, buyer)

    (associated,) = await associations.list_labelled("contact", ids[0], "company")
    assert associated.id == ids[1]
    assert texts(associated.labels) == {None, "Primary", "Buyer"}


async def test_new_label_keeps_present_labels(world: CRMWorld, ids: tuple[str, str]) -> None:
    associations, buyer, user = world.services(*ALL).associations, label_of(world, "Buyer"), label_of(world, "User")

    await associations.associate("contact", ids[0], "company", ids[1], buyer)
    await associations.associate("contact", ids[0], "company", ids[1], user)

    (associated,) = await associations.list_labelled("contact", ids[0], "company")
    assert texts(associated.labels) == {"Buyer", "User"}


async def test_unlabelled_association_is_kept_when_a_label_is_added(world: CRMWorld, ids: tuple[str, str]) -> None:
    associations = world.services(*ALL).associations

    await associations.associate("contact", ids[0], "company", ids[1])
    await associations.associate("contact", ids[0], "company", ids[1], label_of(world, "Buyer"))

    (associated,) = await associations.list_labelled("contact", ids[0], "company")
    assert texts(associated.labels) == {None, "Buyer"}


async def test_removing_one_label_keeps_the_others(world: CRMWorld, ids: tuple[str, str]) -> None:
    associations, buyer, user = world.services(*ALL).associations, label_of(world, "Buyer"), label_of(world, "User")
    await associations.associate("contact", ids[0], "company", ids[1], buyer, user)

    await associations.remove_label("contact", ids[0], "company", ids[1], buyer)

    (associated,) = await associations.list_labelled("contact", ids[0], "company")
    assert texts(associated.labels) == {"User"}


async def test_portals_labels_are_listed(world: CRMWorld) -> None:
    buyer = label_of(world, "Buyer")

    labels = await world.services(*ALL).associations.labels(*PAIR)

    assert {PRIMARY, buyer} <= set(labels)


async def test_merged_record_has_its_survivors_associations(world: CRMWorld, ids: tuple[str, str]) -> None:
    associations = world.services(*ALL).associations
    await associations.associate("contact", ids[0], "company", ids[1])
    world.merge(world.create(email="b@example.org"), ids[0])

    assert await associations.list("contact", ids[0], "company") == (ids[1],)


async def test_associate_with_label_requires_its_declaration(world: CRMWorld, ids: tuple[str, str]) -> None:
    with pytest.raises(NotPermitted):
        await world.services("associations.list").associations.associate("contact", ids[0], "company", ids[1], PRIMARY)

    assert world.calls == []
