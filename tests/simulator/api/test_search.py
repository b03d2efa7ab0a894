"""Search endpoint, over real HTTP."""

from collections.abc import Mapping, Sequence

import pytest

from tests.support.hubspot.probe import Caller

SEARCH = "/crm/v3/objects/deals/search"


@pytest.fixture
async def deals(call: Caller) -> None:
    for name, amount in (("Anchor", "9"), ("Boat", "100"), ("Crane", "")):
        properties = {"dealname": name, "amount": amount, "dealstage": "closedwon" if amount == "9" else ""}
        await call("POST", "/crm/v3/objects/deals", {"properties": properties})


async def names(call: Caller, *filters: Mapping[str, object], **rest: object) -> Sequence[str]:
    body = {"filterGroups": [{"filters": list(filters)}], "properties": ["dealname"], **rest}
    reply = await call("POST", SEARCH, body)
    assert reply.status == 200
    return [record["properties"]["dealname"] for record in reply.json["results"]]


@pytest.mark.parametrize(
    ("filter_", "expected"),
    [
        ({"operator": "EQ", "propertyName": "dealname", "value": "Boat"}, ["Boat"]),
        ({"operator": "NEQ", "propertyName": "dealname", "value": "Boat"}, ["Anchor", "Crane"]),
        ({"operator": "LT", "propertyName": "amount", "value": "50"}, ["Anchor"]),
        ({"operator": "GTE", "propertyName": "amount", "value": "100"}, ["Boat"]),
        ({"operator": "BETWEEN", "propertyName": "amount", "value": "5", "highValue": "50"}, ["Anchor"]),
        ({"operator": "IN", "propertyName": "dealname", "values": ["boat", "anchor"]}, ["Anchor", "Boat"]),
        ({"operator": "NOT_IN", "propertyName": "dealname", "values": ["boat"]}, ["Anchor", "Crane"]),
        ({"operator": "HAS_PROPERTY", "propertyName": "amount"}, ["Anchor", "Boat"]),
        ({"operator": "NOT_HAS_PROPERTY", "propertyName": "amount"}, ["Crane"]),
        ({"operator": "CONTAINS_TOKEN", "propertyName": "dealname", "value": "*an*"}, ["Anchor", "Crane"]),
        ({"operator": "CONTAINS_TOKEN", "propertyName": "dealname", "value": "anch"}, []),
        ({"operator": "CONTAINS_TOKEN", "propertyName": "dealname", "value": "ANCHOR"}, ["Anchor"]),
        ({"operator": "NOT_CONTAINS_TOKEN", "propertyName": "dealname", "value": "boat"}, ["Anchor", "Crane"]),
        ({"operator": "IN", "propertyName": "dealname", "values": ["Boat"]}, []),
        ({"operator": "IN", "propertyName": "dealstage", "values": ["closedwon"]}, ["Anchor"]),
        ({"operator": "IN", "propertyName": "dealstage", "values": ["ClosedWon"]}, []),
        ({"operator": "EQ", "propertyName": "dealstage", "value": "CLOSEDWON"}, []),
    ],
)
async def test_operator_finds_matching_records(
    call: Caller, deals: None, filter_: dict[str, object], expected: list[str]
) -> None:
    assert await names(call, filter_) == expected


async def test_groups_are_alternatives(call: Caller, deals: None) -> None:
    groups = [
        {"filters": [{"operator": "EQ", "propertyName": "dealname", "value": name}]} for name in ("Anchor", "Boat")
    ]
    assert (await call("POST", SEARCH, {"filterGroups": groups})).json["total"] == 2


async def test_sort_orders_numbers_as_numbers(call: Caller, deals: None) -> None:
    sort = {"propertyName": "amount", "direction": "DESCENDING"}
    has_amount = {"operator": "HAS_PROPERTY", "propertyName": "amount"}
    assert await names(call, has_amount, sorts=[sort]) == ["Boat", "Anchor"]


async def test_pages_are_consecutive(call: Caller, deals: None) -> None:
    first = (await call("POST", SEARCH, {"limit": 2})).json
    rest = (await call("POST", SEARCH, {"limit": 2, "after": first["paging"]["next"]["after"]})).json
    assert (first["total"], len(first["results"]), len(rest["results"])) == (3, 2, 1)
    assert "paging" not in rest


async def test_archived_record_is_not_found(call: Caller, deals: None) -> None:
    everything = (await call("POST", SEARCH, {})).json["results"]
    await call("DELETE", f"/crm/v3/objects/deals/{everything[0]['id']}")
    assert (await call("POST", SEARCH, {})).json["total"] == 2


@pytest.mark.parametrize(
    "body",
    [
        {"limit": 201},
        {"after": "10000"},
        {"filterGroups": [{"filters": []}] * 6},
        {"filterGroups": [{"filters": [{"operator": "EQ", "propertyName": "a", "value": "b"}] * 7}]},
        {"filterGroups": [{"filters": [{"operator": "LIKE", "propertyName": "a", "value": "b"}]}]},
        {"query": "x" * 3000},
        {"sorts": ["amount", "dealname"]},
        {"sorts": ["colour"]},
        {"sorts": [{"propertyName": "amount", "direction": "UP"}]},
        {"filterGroups": [{"filters": [{"operator": "EQ", "propertyName": "amount"}]}]},
        {"filterGroups": [{"filters": [{"operator": "IN", "propertyName": "amount", "value": "1"}]}]},
        {"filterGroups": [{"filters": [{"operator": "BETWEEN", "propertyName": "amount", "value": "1"}]}]},
        {"filterGroups": [{"filters": [{"operator": "EQ", "propertyName": "associations.planets", "value": "1"}]}]},
    ],
)
async def test_search_that_hubspot_refuses_is_a_400(call: Caller, body: dict[str, object]) -> None:
    assert (await call("POST", SEARCH, body)).status == 400


async def test_response_has_no_rate_limit_headers(call: Caller) -> None:
    reply = await call("POST", SEARCH, {})
    assert not [name for name in reply.headers if "ratelimit" in name.lower()]


async def test_records_are_found_by_what_they_are_associated_with(call: Caller, deals: None) -> None:
    acme = (await call("POST", "/crm/v3/objects/companies", {"properties": {"name": "Acme"}})).json["id"]
    boat = (await call("POST", SEARCH, {"query": "Boat"})).json["results"][0]["id"]
    await call("PUT", f"/crm/v4/objects/deals/{boat}/associations/default/companies/{acme}")
    for operator, expected in (
        ({"operator": "EQ", "value": acme}, ["Boat"]),
        ({"operator": "EQ", "value": "9"}, []),
        ({"operator": "NOT_HAS_PROPERTY"}, ["Anchor", "Crane"]),
    ):
        assert await names(call, {"propertyName": "associations.company", **operator}) == expected
