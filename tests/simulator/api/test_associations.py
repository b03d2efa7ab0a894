"""Association endpoints, over real HTTP."""

import pytest

from spokes.simulator.app import Simulator
from tests.support.hubspot.probe import Caller


async def create(call: Caller, type_: str) -> str:
    reply = await call("POST", f"/crm/v3/objects/{type_}", {"properties": {"hs_timestamp": "1795442400000"}})
    return str(reply.json["id"])


async def numbers(call: Caller, from_: str, to_type: str) -> dict[str, list[int]]:
    """Return associated id -> association type ids."""
    reply = await call("GET", f"/crm/v4/objects/{from_}/associations/{to_type}")
    return {end["toObjectId"]: [t["typeId"] for t in end["associationTypes"]] for end in reply.json["results"]}


@pytest.fixture
async def pair(call: Caller) -> tuple[str, str]:
    """A contact and a company."""
    return await create(call, "contacts"), await create(call, "companies")


@pytest.mark.parametrize("root", ["/crm/v4/objects", "/crm/objects/2026-03", "/crm/objects/2026-09"])
async def test_default_association_is_seen_from_both_ends(call: Caller, pair: tuple[str, str], root: str) -> None:
    contact, company = pair
    path = f"{root}/contacts/{contact}/associations/default/companies/{company}"
    assert (await call("PUT", path)).status == 200
    assert await numbers(call, f"contacts/{contact}", "companies") == {company: [279]}
    assert await numbers(call, f"companies/{company}", "contacts") == {contact: [280]}


async def test_primary_association_adds_the_unlabelled_one(call: Caller, pair: tuple[str, str]) -> None:
    contact, company = pair
    body = [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 1}]
    reply = await call("PUT", f"/crm/v4/objects/contacts/{contact}/associations/companies/{company}", body)
    assert (reply.status, reply.json["labels"]) == (201, ["Primary"])
    assert await numbers(call, f"contacts/{contact}", "companies") == {company: [1, 279]}


async def test_labelled_put_replaces_the_labels(sim: Simulator, call: Caller, pair: tuple[str, str]) -> None:
    contact, company = pair
    types = sim.crm.types.resolve("contacts"), sim.crm.types.resolve("companies")
    old, new = (sim.crm.associations.types.define_label(*types, label).spec for label in ("Old", "New"))
    for spec in (old, new):
        body = [{"associationCategory": spec.category, "associationTypeId": spec.type_id}]
        await call("PUT", f"/crm/v4/objects/contacts/{contact}/associations/companies/{company}", body)
    assert await numbers(call, f"contacts/{contact}", "companies") == {company: [new.type_id]}


async def test_association_type_of_the_reverse_direction_is_a_400(call: Caller, pair: tuple[str, str]) -> None:
    contact, company = pair
    body = [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 280}]
    reply = await call("PUT", f"/crm/v4/objects/contacts/{contact}/associations/companies/{company}", body)
    assert reply.status == 400


async def test_association_with_unknown_object_is_refused(call: Caller, pair: tuple[str, str]) -> None:
    path = f"/crm/v4/objects/contacts/{pair[0]}/associations/default/companies/9"
    assert (await call("PUT", path)).status == 400


async def test_delete_removes_every_label_at_both_ends(call: Caller, pair: tuple[str, str]) -> None:
    contact, company = pair
    path = f"/crm/v4/objects/contacts/{contact}/associations"
    await call("PUT", f"{path}/default/companies/{company}")
    assert (await call("DELETE", f"{path}/companies/{company}")).status == 204
    assert await numbers(call, f"companies/{company}", "contacts") == {}


async def test_note_is_created_with_its_associations(call: Caller, pair: tuple[str, str]) -> None:
    types = [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 202}]
    body = {"properties": {"hs_timestamp": "1"}, "associations": [{"to": {"id": pair[0]}, "types": types}]}
    note = (await call("POST", "/crm/v3/objects/notes", body)).json["id"]
    assert await numbers(call, f"notes/{note}", "contacts") == {pair[0]: [202]}
    assert await numbers(call, f"contacts/{pair[0]}", "notes") == {note: [201]}


async def test_note_with_an_association_type_of_the_wrong_direction_is_not_created(
    sim: Simulator, call: Caller, pair: tuple[str, str]
) -> None:
    types = [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 201}]
    body = {"properties": {"hs_timestamp": "1"}, "associations": [{"to": {"id": pair[0]}, "types": types}]}
    assert (await call("POST", "/crm/v3/objects/notes", body)).status == 400
    assert not list(sim.crm.records(sim.crm.types.resolve("notes")))


async def test_older_form_has_the_association_type_in_the_path(call: Caller, pair: tuple[str, str]) -> None:
    note = await create(call, "notes")
    path = f"/crm/v3/objects/notes/{note}/associations/contact/{pair[0]}/202"
    assert (await call("PUT", path)).status == 200
    assert await numbers(call, f"notes/{note}", "contacts") == {pair[0]: [202]}


async def test_batch_reads_associations_of_many_objects(call: Caller, pair: tuple[str, str]) -> None:
    contact, company = pair
    await call("PUT", f"/crm/v4/objects/contacts/{contact}/associations/default/companies/{company}")
    reply = await call("POST", "/crm/v4/associations/contacts/companies/batch/read", {"inputs": [{"id": contact}]})
    (result,) = reply.json["results"]
    assert (result["from"]["id"], result["to"][0]["toObjectId"]) == (contact, company)


async def test_batch_creates_and_archives(call: Caller, pair: tuple[str, str]) -> None:
    contact, company = pair
    root = "/crm/associations/2026-09/contacts/companies/batch"
    types = [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 279}]
    association = {"from": {"id": contact}, "to": {"id": company}, "types": types}
    assert (await call("POST", f"{root}/create", {"inputs": [association]})).status == 201
    gone = {"from": {"id": contact}, "to": [{"id": company}]}
    assert (await call("POST", f"{root}/archive", {"inputs": [gone]})).status == 204
    assert await numbers(call, f"contacts/{contact}", "companies") == {}


async def test_labels_list_every_association_type_of_a_direction(call: Caller) -> None:
    reply = await call("GET", "/crm/v4/associations/contacts/companies/labels")
    assert {label["typeId"] for label in reply.json["results"]} == {1, 279}


async def test_survivor_inherits_the_associations_of_both(call: Caller, pair: tuple[str, str]) -> None:
    contact, company = pair
    other = await create(call, "contacts")
    await call("PUT", f"/crm/v4/objects/contacts/{other}/associations/default/companies/{company}")
    body = {"primaryObjectId": contact, "objectIdToMerge": other}
    survivor = (await call("POST", "/crm/v3/objects/contacts/merge", body)).json["id"]
    assert await numbers(call, f"companies/{company}", "contacts") == {survivor: [280]}


async def test_read_with_associations_returns_associated_ids(call: Caller, pair: tuple[str, str]) -> None:
    contact, company = pair
    await call("PUT", f"/crm/v4/objects/contacts/{contact}/associations/default/companies/{company}")
    reply = await call("GET", f"/crm/v3/objects/contacts/{contact}", associations="companies")
    assert reply.json["associations"]["companies"]["results"] == [{"id": company, "type": "contact_to_company"}]


async def test_archived_associated_object_is_left_out(call: Caller, pair: tuple[str, str]) -> None:
    contact, company = pair
    await call("PUT", f"/crm/v4/objects/contacts/{contact}/associations/default/companies/{company}")
    await call("DELETE", f"/crm/v3/objects/companies/{company}")
    assert await numbers(call, f"contacts/{contact}", "companies") == {}
