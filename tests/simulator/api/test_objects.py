"""Endpoints for single objects, over real HTTP."""

import pytest

from spokes.simulator.app import Simulator
from tests.support.hubspot.probe import Caller


async def create(call: Caller, type_: str = "contacts", **properties: str) -> str:
    reply = await call("POST", f"/crm/v3/objects/{type_}", {"properties": properties})
    assert reply.status == 201
    return str(reply.json["id"])


async def test_created_record_has_a_numeric_id_of_twelve_digits(call: Caller) -> None:
    id_ = await create(call, email="ada@mail.example")
    assert id_.isdecimal()
    assert len(id_) == 12


@pytest.mark.parametrize("name", ["contacts", "contact", "0-1"])
async def test_type_is_found_by_plural_singular_and_id(call: Caller, name: str) -> None:
    id_ = await create(call, email="ada@mail.example")
    assert (await call("GET", f"/crm/v3/objects/{name}/{id_}")).json["id"] == id_


@pytest.mark.parametrize("root", ["/crm/v3/objects", "/crm/objects/2026-03", "/crm/objects/2026-09"])
async def test_numbered_and_dated_paths_lead_to_the_same_record(call: Caller, root: str) -> None:
    id_ = await create(call, email="ada@mail.example")
    assert (await call("GET", f"{root}/contacts/{id_}")).status == 200


async def test_custom_type_is_found_by_id(call: Caller) -> None:
    id_ = await create(call, "2-4711", name="Rex")
    assert (await call("GET", f"/crm/v3/objects/2-4711/{id_}", properties="name")).json["properties"]["name"] == "Rex"


async def test_unknown_type_is_a_400(call: Caller) -> None:
    reply = await call("GET", "/crm/v3/objects/unicorns/1")
    assert (reply.status, reply.json["category"]) == (400, "VALIDATION_ERROR")


async def test_read_returns_the_requested_properties_and_null_for_unset_ones(call: Caller) -> None:
    id_ = await create(call, email="ada@mail.example", phone="1", city="Oslo")
    properties = (await call("GET", f"/crm/v3/objects/contacts/{id_}", properties="phone,country")).json["properties"]
    assert (properties["phone"], properties["country"]) == ("1", None)
    assert "city" not in properties


async def test_read_without_properties_returns_the_defaults(call: Caller) -> None:
    id_ = await create(call, email="ada@mail.example", phone="1")
    properties = (await call("GET", f"/crm/v3/objects/contacts/{id_}")).json["properties"]
    assert set(properties) == {"createdate", "email", "firstname", "lastname", "hs_object_id", "lastmodifieddate"}


async def test_values_are_returned_as_text(call: Caller) -> None:
    reply = await call("POST", "/crm/v3/objects/deals", {"properties": {"amount": 12500, "hs_priority_deal": True}})
    assert (reply.json["properties"]["amount"], reply.json["properties"]["hs_priority_deal"]) == ("12500", "true")


async def test_contact_is_found_by_its_email_in_any_case(call: Caller) -> None:
    id_ = await create(call, email="ada@mail.example")
    assert (await call("GET", "/crm/v3/objects/contacts/ADA@mail.example", idProperty="email")).json["id"] == id_


async def test_second_contact_with_an_email_is_a_409_with_the_id_of_the_first(call: Caller) -> None:
    id_ = await create(call, email="ada@mail.example")
    reply = await call("POST", "/crm/v3/objects/contacts", {"properties": {"email": "Ada@mail.example"}})
    assert (reply.status, reply.json["category"]) == (409, "CONFLICT")
    assert reply.json["message"] == f"Contact already exists. Existing ID: {id_}"


async def test_update_changes_only_the_given_properties(call: Caller) -> None:
    id_ = await create(call, email="ada@mail.example", phone="1", city="Oslo")
    await call("PATCH", f"/crm/v3/objects/contacts/{id_}", {"properties": {"phone": "2"}})
    properties = (await call("GET", f"/crm/v3/objects/contacts/{id_}", properties="phone,city")).json["properties"]
    assert (properties["phone"], properties["city"]) == ("2", "Oslo")


async def test_empty_text_clears_a_property(call: Caller) -> None:
    id_ = await create(call, email="ada@mail.example", phone="1")
    await call("PATCH", f"/crm/v3/objects/contacts/{id_}", {"properties": {"phone": ""}})
    reply = await call("GET", f"/crm/v3/objects/contacts/{id_}", properties="phone")
    assert reply.json["properties"]["phone"] is None


async def test_life_cycle_stage_does_not_go_back(call: Caller) -> None:
    id_ = await create(call, lifecyclestage="customer")
    await call("PATCH", f"/crm/v3/objects/contacts/{id_}", {"properties": {"lifecyclestage": "lead"}})
    reply = await call("GET", f"/crm/v3/objects/contacts/{id_}", properties="lifecyclestage")
    assert reply.json["properties"]["lifecyclestage"] == "customer"


@pytest.mark.parametrize(
    ("properties", "code"),
    [({"email": "nobody"}, "INVALID_EMAIL"), ({"hs_object_id": "1"}, "READ_ONLY_VALUE")],
)
async def test_refused_value_is_a_400_with_its_code(call: Caller, properties: dict[str, str], code: str) -> None:
    reply = await call("POST", "/crm/v3/objects/contacts", {"properties": properties})
    assert (reply.status, reply.json["errors"][0]["code"]) == (400, code)


async def test_note_without_a_time_is_a_400(call: Caller) -> None:
    reply = await call("POST", "/crm/v3/objects/notes", {"properties": {"hs_note_body": "hello"}})
    assert reply.status == 400


async def test_history_shows_the_newest_value_first(call: Caller) -> None:
    id_ = await create(call, phone="1")
    await call("PATCH", f"/crm/v3/objects/contacts/{id_}", {"properties": {"phone": "2"}})
    reply = await call("GET", f"/crm/v3/objects/contacts/{id_}", propertiesWithHistory="phone")
    assert [past["value"] for past in reply.json["propertiesWithHistory"]["phone"]] == ["2", "1"]


async def test_archived_record_is_a_404_without_archived_true(call: Caller) -> None:
    id_ = await create(call, email="ada@mail.example")
    assert (await call("DELETE", f"/crm/v3/objects/contacts/{id_}")).status == 204
    assert (await call("GET", f"/crm/v3/objects/contacts/{id_}")).status == 404
    assert (await call("GET", f"/crm/v3/objects/contacts/{id_}", archived="true")).json["archived"] is True


async def test_email_of_an_archived_contact_can_be_used_again(call: Caller) -> None:
    await call("DELETE", f"/crm/v3/objects/contacts/{await create(call, email='ada@mail.example')}")
    assert await create(call, email="ada@mail.example")


async def test_missing_record_is_a_404_with_a_correlation_id(call: Caller) -> None:
    reply = await call("GET", "/crm/v3/objects/contacts/1")
    assert (reply.status, reply.json["category"]) == (404, "OBJECT_NOT_FOUND")
    assert reply.json["correlationId"]


async def test_merge_creates_a_third_record_that_both_ids_resolve_to(call: Caller) -> None:
    winner, loser = await create(call, email="a@mail.example"), await create(call, email="b@mail.example", phone="1")
    body = {"primaryObjectId": winner, "objectIdToMerge": loser}
    survivor = (await call("POST", "/crm/v3/objects/contacts/merge", body)).json["id"]
    assert survivor not in {winner, loser}
    for id_ in (winner, loser, survivor):
        reply = await call("GET", f"/crm/v3/objects/contacts/{id_}", properties="email,phone")
        assert reply.json["id"] == survivor
        assert (reply.json["properties"]["email"], reply.json["properties"]["phone"]) == ("a@mail.example", "1")


async def test_merged_record_is_updated_under_its_previous_id(call: Caller) -> None:
    winner, loser = await create(call, email="a@mail.example"), await create(call, email="b@mail.example")
    await call("POST", "/crm/v3/objects/contacts/merge", {"primaryObjectId": winner, "objectIdToMerge": loser})
    assert (await call("PATCH", f"/crm/v3/objects/contacts/{loser}", {"properties": {"city": "Rome"}})).status == 200


async def test_email_of_a_merged_contact_still_finds_it(call: Caller) -> None:
    winner, loser = await create(call, email="a@mail.example"), await create(call, email="b@mail.example")
    body = {"primaryObjectId": winner, "objectIdToMerge": loser}
    survivor = (await call("POST", "/crm/v3/objects/contacts/merge", body)).json["id"]
    assert (await call("GET", "/crm/v3/objects/contacts/b@mail.example", idProperty="email")).json["id"] == survivor


async def test_erased_record_is_gone_even_from_the_archive(call: Caller) -> None:
    id_ = await create(call, email="ada@mail.example")
    assert (await call("POST", "/crm/v3/objects/contacts/gdpr-delete", {"objectId": id_})).status == 204
    assert (await call("GET", f"/crm/v3/objects/contacts/{id_}")).status == 404
    assert (await call("GET", f"/crm/v3/objects/contacts/{id_}", archived="true")).status == 404


async def test_erasing_an_unknown_email_blocks_it(sim: Simulator, call: Caller) -> None:
    body = {"objectId": "Nobody@mail.example", "idProperty": "email"}
    assert (await call("POST", "/crm/v3/objects/contacts/gdpr-delete", body)).status == 204
    assert sim.crm.blocked_emails == {"nobody@mail.example"}


async def test_list_is_read_page_by_page_without_gaps(call: Caller) -> None:
    ids = [await create(call, "companies", name=str(number)) for number in range(5)]
    seen: list[str] = []
    after = ""
    while True:
        page = (await call("GET", "/crm/v3/objects/companies", limit="2", **({"after": after} if after else {}))).json
        seen += [record["id"] for record in page["results"]]
        if "paging" not in page:
            break
        after = page["paging"]["next"]["after"]
    assert seen == ids


async def test_page_of_more_than_100_is_a_400(call: Caller) -> None:
    assert (await call("GET", "/crm/v3/objects/companies", limit="101")).status == 400


async def test_body_that_is_not_json_is_a_400(call: Caller) -> None:
    assert (await call("POST", "/crm/v3/objects/contacts", b"{")).status == 400


async def test_log_contains_the_writes_of_each_object(sim: Simulator, call: Caller) -> None:
    id_ = await create(call, phone="1")
    await call("PATCH", f"/crm/v3/objects/contacts/{id_}", {"properties": {"phone": "2"}})
    assert sim.requests.writes_to(id_) == [{"phone": "1"}, {"phone": "2"}]
