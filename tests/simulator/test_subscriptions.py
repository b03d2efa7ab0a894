"""Events as the simulator makes them from changes, field by field as HubSpot's deliveries have them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER, AssociationSpec, ObjectRef
from spokes.simulator.config import PortalConfig, SimulatorConfig, Subscription
from spokes.simulator.crm.association_types import HUBSPOT_DEFINED
from spokes.simulator.crm.records import CrmRecord
from tests.support.probe import Caller

HEAD = ["eventId", "subscriptionId", "portalId", "appId", "occurredAt", "subscriptionType", "attemptNumber"]
MERGE = ["primaryObjectId", "mergedObjectIds", "newObjectId", "numberOfPropertiesMoved"]
ENDS = ["fromObjectId", "fromObjectTypeId", "toObjectId", "toObjectTypeId"]


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    portal = PortalConfig(sensitive_properties={"contacts": frozenset({"passport_number"})})
    async with Simulator(SimulatorConfig(portals=(portal,))) as running:
        yield running


def subscribe(sim: Simulator, *types: str, object_type: str | None = None) -> None:
    for type_ in types:
        sim.subscriptions.add(Subscription(type_, object_type=object_type))


def told(sim: Simulator) -> list[dict[str, Any]]:
    """The elements made so far; nothing is sent, for there is no target."""
    return [event.element for event in sim.deliveries.events if isinstance(event.element, dict)]


def make(sim: Simulator, type_: str = "contacts", **properties: str) -> CrmRecord:
    return sim.crm.create(sim.crm.types.resolve(type_), properties, USER)


def associate(sim: Simulator, from_: CrmRecord, to: CrmRecord, number: int) -> None:
    found = sim.crm.associations.types.find(AssociationSpec(HUBSPOT_DEFINED, number), from_.type, to.type)
    ends = ObjectRef(from_.type.type_id, from_.id), ObjectRef(to.type.type_id, to.id)
    sim.crm.associations.add(*ends, [found], USER)


async def test_nobody_hears_of_what_is_not_subscribed(sim: Simulator) -> None:
    subscribe(sim, "company.creation")
    make(sim)
    assert told(sim) == []


async def test_creation(sim: Simulator) -> None:
    subscribe(sim, "contact.creation")
    contact = make(sim)
    (event,) = told(sim)
    assert list(event) == [*HEAD, "objectId", "changeFlag", "changeSource", "sourceId"]
    assert (event["objectId"], event["changeFlag"], event["changeSource"]) == (int(contact.id), "CREATED", "CRM_UI")
    assert (event["portalId"], event["appId"], event["attemptNumber"]) == (50112233, 7788990, 0)
    assert event["occurredAt"] == contact.created_at_ms


async def test_creation_in_the_generic_dialect(sim: Simulator) -> None:
    subscribe(sim, "object.creation", object_type="notes")
    make(sim, "notes", hs_timestamp="1")
    (event,) = told(sim)
    assert list(event) == [*HEAD, "objectId", "changeFlag", "changeSource", "objectTypeId", "sourceId"]
    assert (event["subscriptionType"], event["objectTypeId"]) == ("object.creation", "0-46")


async def test_property_change(sim: Simulator) -> None:
    subscribe(sim, "contact.propertyChange")
    sim.crm.update(make(sim), {"phone": "1"}, USER)
    (event,) = told(sim)
    assert list(event) == [*HEAD, "objectId", "propertyName", "propertyValue", "changeSource", "sourceId"]
    assert (event["propertyName"], event["propertyValue"]) == ("phone", "1")


async def test_property_change_in_the_generic_dialect(sim: Simulator) -> None:
    subscribe(sim, "object.propertyChange", object_type="deals")
    sim.crm.update(make(sim, "deals"), {"amount": "1"}, USER)
    (event,) = told(sim)
    names = ["objectId", "propertyName", "propertyValue", "changeSource", "objectTypeId", "sourceId", "isSensitive"]
    assert list(event) == [*HEAD, *names]


async def test_subscription_to_one_property_hears_of_no_other(sim: Simulator) -> None:
    sim.subscriptions.add(Subscription("contact.propertyChange", "phone"))
    sim.crm.update(make(sim), {"phone": "1", "city": "Rome"}, USER)
    assert [event["propertyName"] for event in told(sim)] == ["phone"]


async def test_value_that_was_there_already_is_no_change(sim: Simulator) -> None:
    subscribe(sim, "contact.propertyChange")
    sim.crm.update(make(sim, phone="1"), {"phone": "1"}, USER)
    assert told(sim) == []


@pytest.mark.parametrize(("type_", "flag"), [("contact.propertyChange", None), ("object.propertyChange", True)])
async def test_sensitive_value_is_redacted(sim: Simulator, type_: str, flag: bool | None) -> None:
    subscribe(sim, type_, object_type="contacts" if type_.startswith("object.") else None)
    sim.crm.update(make(sim), {"passport_number": "X123"}, USER)
    (event,) = told(sim)
    assert (event["propertyValue"], event.get("isSensitive")) == ("REDACTED", flag)


async def test_deletion_and_a_restoration(sim: Simulator) -> None:
    subscribe(sim, "contact.deletion", "contact.restore")
    contact = make(sim)
    sim.crm.archive(contact, USER)
    sim.crm.restore(contact, USER)
    deletion, restoration = told(sim)
    assert list(deletion) == [*HEAD, "objectId", "changeFlag", "changeSource", "sourceId"]
    assert list(restoration) == [*HEAD, "objectId", "changeSource", "sourceId"]


async def test_merge(sim: Simulator) -> None:
    subscribe(sim, "contact.merge")
    winner, loser = make(sim), make(sim, phone="1")
    survivor = sim.crm.merge(winner, loser, USER)
    (event,) = told(sim)
    assert list(event) == [*HEAD, "objectId", "changeSource", *MERGE, "sourceId"]
    assert event["objectId"] == event["newObjectId"] == int(survivor.id)
    assert (event["primaryObjectId"], event["mergedObjectIds"]) == (int(winner.id), [int(loser.id)])
    assert (event["numberOfPropertiesMoved"], event["changeSource"]) == (1, "USER")


async def test_merge_in_the_generic_dialect(sim: Simulator) -> None:
    subscribe(sim, "object.merge", object_type="company")
    sim.crm.merge(make(sim, "companies"), make(sim, "companies"), USER)
    (event,) = told(sim)
    assert list(event) == [*HEAD, "objectId", "changeSource", "objectTypeId", *MERGE, "sourceId"]


async def test_privacy_deletion_also_tells_of_the_deletion(sim: Simulator) -> None:
    subscribe(sim, "contact.privacyDeletion", "contact.deletion")
    sim.crm.erase(make(sim), USER)
    by_type = {event["subscriptionType"]: event for event in told(sim)}
    assert set(by_type) == {"contact.privacyDeletion", "contact.deletion"}
    assert list(by_type["contact.privacyDeletion"]) == [*HEAD, "objectId", "changeSource"]


async def test_association_is_told_in_each_direction_that_is_subscribed(sim: Simulator) -> None:
    subscribe(sim, "contact.associationChange", "company.associationChange")
    associate(sim, make(sim), make(sim, "companies"), 279)
    there, back = told(sim)
    names = ["changeSource", "associationType", "fromObjectId", "toObjectId", "associationRemoved"]
    assert list(there) == [*HEAD, *names, "isPrimaryAssociation", "sourceId"]
    assert (there["associationType"], back["associationType"]) == ("CONTACT_TO_COMPANY", "COMPANY_TO_CONTACT")
    assert (there["fromObjectId"], there["toObjectId"]) == (back["toObjectId"], back["fromObjectId"])


async def test_primary_association_is_told_twice(sim: Simulator) -> None:
    subscribe(sim, "contact.associationChange")
    associate(sim, make(sim), make(sim, "companies"), 1)
    assert [event["isPrimaryAssociation"] for event in told(sim)] == [True, False]


async def test_removed_association_says_so(sim: Simulator) -> None:
    subscribe(sim, "contact.associationChange")
    contact, company = make(sim), make(sim, "companies")
    associate(sim, contact, company, 279)
    sim.crm.associations.remove(ObjectRef("0-1", contact.id), ObjectRef("0-2", company.id), USER)
    assert [event["associationRemoved"] for event in told(sim)] == [False, True]


async def test_association_in_the_generic_dialect_has_no_object_id(sim: Simulator) -> None:
    subscribe(sim, "object.associationChange", object_type="deals")
    associate(sim, make(sim, "deals"), make(sim), 3)
    (event,) = told(sim)
    rest = ["associationTypeId", "associationCategory", "associationRemoved", "isPrimaryAssociation", "sourceId"]
    assert list(event) == [*HEAD, "changeSource", *ENDS, *rest]
    assert (event["associationTypeId"], event["associationCategory"]) == (3, "HUBSPOT_DEFINED")


async def test_conversation_is_told_without_a_source(sim: Simulator) -> None:
    subscribe(sim, *(f"conversation.{kind}" for kind in ("creation", "newMessage", "propertyChange", "deletion")))
    inbox = sim.portal.conversations
    thread = inbox.start()
    message_id = inbox.add_message(thread)
    inbox.set_property(thread, "status", "CLOSED")
    inbox.delete(thread)
    creation, message, change, deletion = told(sim)
    assert list(creation) == [*HEAD, "objectId", "changeFlag"]
    assert list(message) == [*HEAD, "objectId", "messageId", "messageType", "changeFlag"]
    assert (message["messageId"], message["changeFlag"]) == (message_id, "NEW_MESSAGE")
    assert list(change) == [*HEAD, "objectId", "propertyName", "propertyValue"]
    assert list(deletion) == [*HEAD, "objectId", "changeFlag"]


async def test_what_the_app_writes_comes_back_marked_as_its_own(sim: Simulator) -> None:
    subscribe(sim, "contact.propertyChange")
    contact = make(sim)
    async with Caller(sim.url) as call:
        await call("PATCH", f"/crm/v3/objects/contacts/{contact.id}", {"properties": {"phone": "1"}})
    (event,) = told(sim)
    assert (event["changeSource"], event["sourceId"]) == ("INTEGRATION", "7788990")


async def test_paused_subscription_hears_nothing(sim: Simulator) -> None:
    sim.subscriptions.add(Subscription("contact.creation", active=False))
    make(sim)
    assert told(sim) == []
