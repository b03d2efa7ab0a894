"""`assert_idempotent` finds the call after which a crash leaves another state in HubSpot."""

import pytest

from spokes import Event, Router, Tools, uses
from spokes.testing import Spokes

NOTE = {"hs_note_body": "Hello"}
router = Router()


@router.register("contact.creation")
@uses(may=("notes.create",))
async def greet_each_time(event: Event, tools: Tools) -> None:
    await tools.crm.notes.create(NOTE, to={"contact": [event.object_id]})


@router.register("contact.restore")
@uses(reads={"notes": ("hs_note_body",)}, may=("notes.create", "associations.list"))
async def greet_once(event: Event, tools: Tools) -> None:
    async def create() -> str:
        return await tools.crm.notes.create(NOTE, to={"contact": [event.object_id]})

    async def find() -> str | None:
        return next(iter(await tools.crm.associations.list("contacts", event.object_id, "notes")), None)

    await tools.once("greeting", create, find=find)


@router.register("contact.propertyChange", property="city")
@uses(reads={"contacts": ("jobtitle",)}, may=("contacts.update",))
async def append(event: Event, tools: Tools) -> None:
    contact = await tools.crm.contacts.get(event.object_id)
    await tools.crm.contacts.update(event.object_id, jobtitle=contact["jobtitle"] + "!")


@router.register("contact.propertyChange", property="phone")
@uses(reads={"contacts": ("phone",)}, may=("contacts.update",))
async def absolute(event: Event, tools: Tools) -> None:
    contact = await tools.crm.contacts.get(event.object_id)
    await tools.crm.contacts.update(event.object_id, jobtitle=f"reach at {contact['phone']}")


@pytest.fixture
def spokes_handlers() -> Router:
    return router


async def test_creation_without_once_is_not_idempotent(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create(email="ada@example.com")
    with pytest.raises(
        AssertionError, match=r"crash after call 1 \(notes.create\): there are 2 instead of 1 new notes"
    ):
        await spokes.assert_idempotent("contact.creation", ada)


async def test_creation_under_once_is_idempotent(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create(email="ada@example.com")
    run = await spokes.assert_idempotent("contact.restore", ada)
    assert run.calls == ["once", "notes.create"]
    assert len(spokes.hubspot.notes) == 1


async def test_relative_change_is_not_idempotent(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create(jobtitle="Analyst")
    expected = r"crash after call 2 \(contacts.update\): jobtitle of contacts \d+ is 'Analyst!!' instead of 'Analyst!'"
    with pytest.raises(AssertionError, match=expected):
        await spokes.assert_idempotent("contact.propertyChange", ada, property="city", value="Bonn")


async def test_absolute_change_is_idempotent(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create(phone="1")
    run = await spokes.assert_idempotent("contact.propertyChange", ada, property="phone", value="2")
    assert run.outcome == "processed"
    assert spokes.hubspot.contacts[ada.id]["jobtitle"] == "reach at 2"


async def test_event_without_a_handler_cannot_be_checked(spokes: Spokes) -> None:
    ada = await spokes.hubspot.contacts.create()
    with pytest.raises(AssertionError, match="no handler ran for this event: it was ignored"):
        await spokes.assert_idempotent("contact.deletion", ada)
