"""Batch endpoints and their partial failures, over real HTTP."""

import pytest

from spokes.simulator.app import Simulator
from tests.support.hubspot.probe import Caller

OBJECTS = "/crm/v3/objects/contacts"


async def create_many(call: Caller, *emails: str) -> list[str]:
    inputs = [{"properties": {"email": email}} for email in emails]
    reply = await call("POST", f"{OBJECTS}/batch/create", {"inputs": inputs})
    assert reply.status == 201
    return [record["id"] for record in reply.json["results"]]


async def test_batch_read_returns_the_requested_properties(call: Caller) -> None:
    ids = await create_many(call, "a@mail.example", "b@mail.example")
    body = {"properties": ["email"], "inputs": [{"id": id_} for id_ in ids]}
    reply = await call("POST", f"{OBJECTS}/batch/read", body)
    assert reply.status == 200
    assert [record["properties"]["email"] for record in reply.json["results"]] == ["a@mail.example", "b@mail.example"]


async def test_batch_read_finds_contacts_by_email(call: Caller) -> None:
    (id_,) = await create_many(call, "a@mail.example")
    body = {"idProperty": "email", "inputs": [{"id": "a@mail.example"}]}
    reply = await call("POST", f"{OBJECTS}/batch/read", body)
    assert [record["id"] for record in reply.json["results"]] == [id_]


@pytest.mark.parametrize(
    ("root", "status"), [("/crm/v3/objects", 207), ("/crm/objects/2026-03", 207), ("/crm/objects/2026-09", 200)]
)
async def test_missing_ids_are_one_error_and_the_version_decides_the_status(
    call: Caller, root: str, status: int
) -> None:
    (id_,) = await create_many(call, "a@mail.example")
    reply = await call("POST", f"{root}/contacts/batch/read", {"inputs": [{"id": id_}, {"id": "8"}, {"id": "9"}]})
    assert (reply.status, reply.json["numErrors"]) == (status, 1)
    assert reply.json["errors"][0]["category"] == "OBJECT_NOT_FOUND"
    assert reply.json["errors"][0]["context"]["ids"] == ["8", "9"]


async def test_more_than_100_inputs_are_a_400(call: Caller) -> None:
    assert (await call("POST", f"{OBJECTS}/batch/read", {"inputs": [{"id": "1"}] * 101})).status == 400


async def test_batch_create_without_trace_ids_creates_all_or_none(sim: Simulator, call: Caller) -> None:
    await create_many(call, "a@mail.example")
    inputs = [{"properties": {"email": "new@mail.example"}}, {"properties": {"email": "a@mail.example"}}]
    assert (await call("POST", f"{OBJECTS}/batch/create", {"inputs": inputs})).status == 409
    assert len(list(sim.crm.all_records())) == 1


async def test_batch_create_with_trace_ids_fails_per_input(call: Caller) -> None:
    await create_many(call, "a@mail.example")
    inputs = [
        {"properties": {"email": "new@mail.example"}, "objectWriteTraceId": "t1"},
        {"properties": {"email": "a@mail.example"}, "objectWriteTraceId": "t2"},
    ]
    reply = await call("POST", f"{OBJECTS}/batch/create", {"inputs": inputs})
    assert reply.status == 207
    assert [record["objectWriteTraceId"] for record in reply.json["results"]] == ["t1"]
    assert reply.json["errors"][0]["context"]["objectWriteTraceId"] == ["t2"]


async def test_batch_update_reports_an_unknown_id(call: Caller) -> None:
    (id_,) = await create_many(call, "a@mail.example")
    inputs = [{"id": id_, "properties": {"phone": "1"}}, {"id": "9", "properties": {"phone": "1"}}]
    reply = await call("POST", f"{OBJECTS}/batch/update", {"inputs": inputs})
    assert reply.status == 207
    assert reply.json["errors"][0]["context"]["ids"] == ["9"]


async def test_batch_update_silently_skips_a_merged_record(call: Caller) -> None:
    winner, loser = await create_many(call, "a@mail.example", "b@mail.example")
    await call("POST", f"{OBJECTS}/merge", {"primaryObjectId": winner, "objectIdToMerge": loser})
    reply = await call("POST", f"{OBJECTS}/batch/update", {"inputs": [{"id": loser, "properties": {"phone": "1"}}]})
    assert (reply.status, reply.json["results"]) == (200, [])
    assert "errors" not in reply.json


async def test_batch_read_does_not_find_a_merged_record_under_its_previous_id(call: Caller) -> None:
    winner, loser = await create_many(call, "a@mail.example", "b@mail.example")
    await call("POST", f"{OBJECTS}/merge", {"primaryObjectId": winner, "objectIdToMerge": loser})
    reply = await call("POST", f"{OBJECTS}/batch/read", {"inputs": [{"id": loser}]})
    assert reply.json["errors"][0]["context"]["ids"] == [loser]


async def test_batch_write_with_a_duplicate_id_is_a_400(call: Caller) -> None:
    (id_,) = await create_many(call, "a@mail.example")
    inputs = [{"id": id_, "properties": {"phone": phone}} for phone in "12"]
    assert (await call("POST", f"{OBJECTS}/batch/update", {"inputs": inputs})).status == 400


async def test_upsert_reports_which_records_are_new(call: Caller) -> None:
    await create_many(call, "a@mail.example")
    inputs = [
        {"id": email, "idProperty": "email", "properties": {"phone": "1"}}
        for email in ("a@mail.example", "new@mail.example")
    ]
    reply = await call("POST", f"{OBJECTS}/batch/upsert", {"inputs": inputs})
    assert [record["new"] for record in reply.json["results"]] == [False, True]


async def test_batch_archive_of_unknown_ids_is_a_204(call: Caller) -> None:
    (id_,) = await create_many(call, "a@mail.example")
    reply = await call("POST", f"{OBJECTS}/batch/archive", {"inputs": [{"id": id_}, {"id": "9"}]})
    assert reply.status == 204
    assert (await call("GET", f"{OBJECTS}/{id_}")).status == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("batch/read", []),
        ("batch/read", {}),
        ("batch/read", {"inputs": "1"}),
        ("batch/read", {"inputs": [1]}),
        ("batch/read", {"inputs": [{}]}),
        ("batch/read", {"inputs": [{"id": "1"}], "properties": 5}),
        ("batch/read", {"inputs": [{"id": "1"}], "idProperty": {}}),
        ("batch/create", {"inputs": [{"properties": 5}]}),
        ("batch/create", {"inputs": [{"properties": {}, "associations": [{"to": 5}]}]}),
        ("search", {"filterGroups": 5}),
        ("search", {"filterGroups": [{"filters": [5]}]}),
        ("search", {"filterGroups": [{"filters": [{"operator": ["EQ"], "propertyName": "a"}]}]}),
        ("search", {"limit": "many"}),
        ("merge", {"primaryObjectId": {}}),
        ("gdpr-delete", {}),
    ],
)
async def test_body_of_the_wrong_shape_is_a_400(call: Caller, path: str, body: object) -> None:
    assert (await call("POST", f"{OBJECTS}/{path}", body)).status == 400
