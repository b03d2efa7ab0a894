"""Ids that handlers pass: text or whole numbers; anything else is refused before it reaches a shared batch."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from spokes.core.errors import InvalidRequest
from spokes.crm.services import Services
from tests.support.hubspot.crm_world import CRMWorld

MAY = ("contacts.upsert", "contacts.update", "contacts.archive", "contacts.merge", "notes.create")
ASSOCIATIONS = ("associations.list", "associations.associate", "associations.remove")
CALLS: dict[str, Callable[[Services, Any], Awaitable[object]]] = {
    "get": lambda crm, id_: crm.contacts.get(id_),
    "get_by": lambda crm, id_: crm.contacts.get_by("email", id_),
    "update": lambda crm, id_: crm.contacts.update(id_, {"city": "Ulm"}),
    "archive": lambda crm, id_: crm.contacts.archive(id_),
    "merge": lambda crm, id_: crm.contacts.merge("1", id_),
    "to": lambda crm, id_: crm.notes.create({"hs_note_body": "x"}, to={"contact": [id_]}),
    "list": lambda crm, id_: crm.associations.list("contact", id_, "company"),
    "associate": lambda crm, id_: crm.associations.associate("contact", "1", "company", id_),
    "remove": lambda crm, id_: crm.associations.remove("contact", id_, "company", "1"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("value", "category"), [("", "ID_EMPTY"), (None, "ID_TYPE"), (1.0, "ID_TYPE"), (True, "ID_TYPE"), (b"1", "ID_TYPE")]
)
async def test_what_is_no_id_is_refused_and_nothing_is_sent(
    world: CRMWorld, call: str, value: object, category: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await CALLS[call](world.services(*MAY, *ASSOCIATIONS), value)
    assert caught.value.category == category
    assert world.calls == []


async def test_whole_number_is_an_id(world: CRMWorld) -> None:
    (first,) = world.create_contacts(1)
    crm = world.services(*MAY, *ASSOCIATIONS)
    assert (await crm.contacts.get(int(first))).id == first  # type: ignore[arg-type]  # as HubSpot's own JSON has it
    await crm.contacts.update(int(first), {"city": "Ulm"})  # type: ignore[arg-type]  # as above
    assert await crm.associations.list("contact", int(first), "company") == ()  # type: ignore[arg-type]  # as above


async def test_wrong_id_among_many_fails_alone(world: CRMWorld) -> None:
    (first,) = world.create_contacts(1)
    results = await world.services().contacts.get_many([first, "", None])  # type: ignore[list-item]  # on purpose
    assert [item.ok for item in results] == [True, False, False]


@pytest.mark.parametrize("value", ["", None, " "])
async def test_upsert_without_a_value_creates_no_record(world: CRMWorld, value: object) -> None:
    with pytest.raises(InvalidRequest):
        await world.services(*MAY).contacts.upsert("email", value, {"city": "Ulm"})  # type: ignore[arg-type]  # on purpose
    assert world.calls == []


@pytest.mark.parametrize("types", [(None, "company"), ("contact", None), ("", "company"), ("contact", 7)])
async def test_type_of_an_association_is_text(world: CRMWorld, types: tuple[Any, Any]) -> None:
    crm = world.services(*ASSOCIATIONS).associations
    first, second = types
    for call in (
        crm.list(first, "1", second),
        crm.labels(first, second),
        crm.associate(first, "1", second, "2"),
        crm.remove(first, "1", second, "2"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            await call
        assert caught.value.category == "OBJECT_TYPE"
    assert world.calls == []
