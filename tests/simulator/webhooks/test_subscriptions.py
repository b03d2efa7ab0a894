"""Events of changes, field by field as in HubSpot's deliveries."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER, AssociationSpec, ObjectRef
from spokes.simulator.config import PortalConfig, SimulatorConfig, Subscription
from spokes.simulator.crm.association_types import HUBSPOT_DEFINED
from spokes.simulator.crm.records import CrmRecord
from spokes.simulator.default_subscriptions import DEFAULT_SUBSCRIPTIONS
from tests.support.hubspot.probe import Caller

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


def submitted(sim: Simulator) -> list[dict[str, Any]]:
    """Return the elements submitted until now; without a target nothing is sent."""
    return [event.element for event in sim.deliveries.events if isinstance(event.element, dict)]


def create(sim: Simulator, type_: str = "contacts", **properties: str) -> CrmRecord:
    return sim.crm.create(sim.crm.types.resolve(type_), properties, USER)


def associate(sim: Simulator, from_: CrmRecord, to: CrmRecord, number: int) -> None:
    association_type = sim.crm.associations.types.find(AssociationSpec(HUBSPOT_DEFINED, number), from_.type, to.type)
    ends = ObjectRef(from_.type.type_id, from_.id), ObjectRef(to.type.type_id, to.id)
    sim.crm.associations.add(*ends, [association_type], USER)


async def test_change_without_a_subscription_causes_no_event(sim: Simulator) -> None:
    subscribe(sim, "company.creation")
    create(sim)
    assert submitted(sim) == []


async def test_creation_event_has_hubspots_fields(sim: Simulator) -> None:
    subscribe(sim, "contact.creation")
    contact = create(sim)
    (event,) = submitted(sim)
    assert list(event) == [*HEAD, "objectId", "changeFlag", "changeSource", "sourceId"]
    assert (event["objectId"], event["changeFlag"], event["changeSource"]) == (int(contact.id), "CREATED", "CRM_UI")
    assert (event["portalId"], event["appId"], event["attemptNumber"]) == (50112233, 7788990, 0)
    assert event["occurredAt"] == contact.created_at_ms


async def test_generic_creation_event_has_hubspots_fields(sim: Simulator) -> None:
    subscribe(sim, "object.creation", object_type="notes")
    create(sim, "notes", hs_timestamp="1")
    (event,) = submitted(sim)
    assert list(event) == [*HEAD, "objectId", "changeFlag", "changeSource", "objectTypeId", "sourceId"]
    assert (event["subscriptionType"], event["objectTypeId"]) == ("object.creation", "0-46")


async def test_property_change_event_has_hubspots_fields(sim: Simulator) -> None:
    subscribe(sim, "contact.propertyChange")
    sim.crm.update(create(sim), {"phone": "1"}, USER)
    (event,) = submitted(sim)
    assert list(event) == [*HEAD, "objectId", "propertyName", "propertyValue", "changeSource", "sourceId"]
    assert (event["propertyName"], event["propertyValue"]) == ("phone", "1")


async def test_generic_property_change_event_has_hubspots_fields(sim: Simulator) -> None:
    subscribe(sim, "object.propertyChange", object_type="deals")
    sim.crm.update(create(sim, "deals"), {"amount": "1"}, USER)
    (event,) = submitted(sim)
    names = ["objectId", "propertyName", "propertyValue", "changeSource", "objectTypeId", "sourceId", "isSensitive"]
    assert list(event) == [*HEAD, *names]


async def test_subscription_to_one_property_ignores_others(sim: Simulator) -> None:
    sim.subscriptions.add(Subscription("contact.propertyChange", "phone"))
    sim.crm.update(create(sim), {"phone": "1", "city": "Rome"}, USER)
    assert [event["propertyName"] for event in submitted(sim)] == ["phone"]


async def test_unchanged_value_causes_no_event(sim: Simulator) -> None:
    subscribe(sim, "contact.propertyChange")
    sim.crm.update(create(sim, phone="1"), {"phone": "1"}, USER)
    assert submitted(sim) == []


@pytest.mark.parametrize(("type_", "flag"), [("contact.propertyChange", None), ("object.propertyChange", True)])
async def test_sensitive_value_is_redacted(sim: Simulator, type_: str, flag: bool | None) -> None:
    subscribe(sim, type_, object_type="contacts" if type_.startswith("object.") else None)
    sim.crm.update(create(sim), {"passport_number": "X123"}, USER)
    (event,) = submitted(sim)
    assert (event["propertyValue"], event.get("isSensitive")) == ("REDACTED", flag)


async def test_deletion_and_restoration_cause_their_events(sim: Simulator) -> None:
    subscribe(sim, "contact.deletion", "contact.restore")
    contact = create(sim)
    sim.crm.archive(contact, USER)
    sim.crm.restore(contact, USER)
    deletion, restoration = submitted(sim)
    assert list(deletion) == [*HEAD, "objectId", "changeFlag", "changeSource", "sourceId"]
    assert list(restoration) == [*HEAD, "objectId", "changeSource", "sourceId"]


async def test_merge_event_has_hubspots_fields(sim: Simulator) -> None:
    subscribe(sim, "contact.merge")
    winner, loser = create(sim), create(sim, phone="1")
    survivor = sim.crm.merge(winner, loser, USER)
    (event,) = submitted(sim)
    assert list(event) == [*HEAD, "objectId", "changeSource", *MERGE, "sourceId"]
    assert event["objectId"] == event["newObjectId"] == int(survivor.id)
    assert (event["primaryObjectId"], event["mergedObjectIds"]) == (int(winner.id), [int(loser.id)])
    assert (event["numberOfPropertiesMoved"], event["changeSource"]) == (1, "USER")


async def test_generic_merge_event_has_hubspots_fields(sim: Simulator) -> None:
    subscribe(sim, "object.merge", object_type="company")
    sim.crm.merge(create(sim, "companies"), create(sim, "companies"), USER)
    (event,) = submitted(sim)
    assert list(event) == [*HEAD, "objectId", "changeSource", "objectTypeId", *MERGE, "sourceId"]


async def test_privacy_deletion_also_causes_a_deletion_event(sim: Simulator) -> None:
    subscribe(sim, "contact.privacyDeletion", "contact.deletion")
    sim.crm.erase(create(sim), USER)
    by_type = {event["subscriptionType"]: event for event in submitted(sim)}
    assert set(by_type) == {"contact.privacyDeletion", "contact.deletion"}
    assert list(by_type["contact.privacyDeletion"]) == [*HEAD, "objectId", "changeSource"]


async def test_association_causes_an_event_in_each_subscribed_direction(sim: Simulator) -> None:
    subscribe(sim, "contact.associationChange", "company.associationChange")
    associate(sim, create(sim), create(sim, "companies"), 279)
    there, back = submitted(sim)
    names = ["changeSource", "associationType", "fromObjectId", "toObjectId", "associationRemoved"]
    assert list(there) == [*HEAD, *names, "isPrimaryAssociation", "sourceId"]
    assert (there["associationType"], back["associationType"]) == ("CONTACT_TO_COMPANY", "COMPANY_TO_CONTACT")
    assert (there["fromObjectId"], there["toObjectId"]) == (back["toObjectId"], back["fromObjectId"])


async def test_primary_association_causes_two_events(sim: Simulator) -> None:
    subscribe(sim, "contact.associationChange")
    associate(sim, create(sim), create(sim, "companies"), 1)
    assert [event["isPrimaryAssociation"] for event in submitted(sim)] == [True, False]


async def test_removed_association_is_marked_as_removed(sim: Simulator) -> None:
    subscribe(sim, "contact.associationChange")
    contact, company = create(sim), create(sim, "companies")
    associate(sim, contact, company, 279)
    sim.crm.associations.remove(ObjectRef("0-1", contact.id), ObjectRef("0-2", company.id), USER)
    assert [event["associationRemoved"] for event in submitted(sim)] == [False, True]


async def test_generic_association_event_has_no_object_id(sim: Simulator) -> None:
    subscribe(sim, "object.associationChange", object_type="deals")
    associate(sim, create(sim, "deals"), create(sim), 3)
    (event,) = submitted(sim)
    rest = ["associationTypeId", "associationCategory", "associationRemoved", "isPrimaryAssociation", "sourceId"]
    assert list(event) == [*HEAD, "changeSource", *ENDS, *rest]
    assert (event["associationTypeId"], event["associationCategory"]) == (3, "HUBSPOT_DEFINED")


async def test_conversation_event_has_no_source(sim: Simulator) -> None:
    subscribe(sim, *(f"conversation.{kind}" for kind in ("creation", "newMessage", "propertyChange", "deletion")))
    inbox = sim.portal.conversations
    thread = inbox.start()
    message_id = inbox.add_message(thread)
    inbox.set_property(thread, "status", "CLOSED")
    inbox.delete(thread)
    creation, message, change, deletion = submitted(sim)
    assert list(creation) == [*HEAD, "objectId", "changeFlag"]
    assert list(message) == [*HEAD, "objectId", "messageId", "messageType", "changeFlag"]
    assert (message["messageId"], message["changeFlag"]) == (message_id, "NEW_MESSAGE")
    assert list(change) == [*HEAD, "objectId", "propertyName", "propertyValue"]
    assert list(deletion) == [*HEAD, "objectId", "changeFlag"]


async def test_write_by_the_app_is_marked_as_its_own(sim: Simulator) -> None:
    subscribe(sim, "contact.propertyChange")
    contact = create(sim)
    async with Caller(sim.url) as call:
        await call("PATCH", f"/crm/v3/objects/contacts/{contact.id}", {"properties": {"phone": "1"}})
    (event,) = submitted(sim)
    assert (event["changeSource"], event["sourceId"]) == ("INTEGRATION", "7788990")


async def test_inactive_subscription_causes_no_event(sim: Simulator) -> None:
    sim.subscriptions.add(Subscription("contact.creation", active=False))
    create(sim)
    assert submitted(sim) == []


async def test_default_subscriptions_cover_custom_types(sim: Simulator) -> None:
    for subscription in DEFAULT_SUBSCRIPTIONS:
        sim.subscriptions.add(subscription)
    sim.crm.update(create(sim, "2-1234567", plate="A"), {"plate": "B"}, USER)
    events = [(event["subscriptionType"], event["objectTypeId"]) for event in submitted(sim)]
    assert events == [("object.creation", "2-1234567"), ("object.propertyChange", "2-1234567")]
