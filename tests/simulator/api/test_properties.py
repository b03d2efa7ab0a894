"""The simulator refuses what HubSpot refuses: unknown properties, and values that a property cannot have."""

from collections.abc import AsyncIterator

import pytest

from spokes.simulator.__main__ import build_config, build_parser
from spokes.simulator.app import Simulator
from spokes.simulator.own_properties import UnknownProperties
from tests.support.hubspot.probe import Caller

CONTACTS = "/crm/v3/objects/contacts"
PROPERTIES = "/crm/v3/properties/contacts"
ACCOUNT = ("--port", "0", "--property", "contacts.renewal:date", "--property", "contact.score:number")


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    """A simulator as `spokes up` starts it."""
    async with Simulator(build_config(build_parser().parse_args(ACCOUNT))) as running:
        yield running


async def write(call: Caller, **properties: object) -> tuple[int, str, str]:
    """Create a contact; return status, HubSpot's code and the property that it names."""
    answer = await call("POST", CONTACTS, {"properties": properties})
    (error,) = answer.json.get("errors") or [{}]
    return answer.status, error.get("code", ""), "".join(error.get("context", {}).get("propertyName", []))


@pytest.mark.parametrize(
    "name", ["email", "city", "jobtitle", "hs_lead_status", "hubspot_owner_id", "renewal", "score"]
)
async def test_property_of_hubspot_or_of_the_account_is_written(call: Caller, name: str) -> None:
    values = {"email": "ada@example.org", "renewal": "2026-12-24", "hs_lead_status": "NEW", "hubspot_owner_id": "7"}
    value = {**values, "score": "1.5"}.get(name, "x")
    assert await write(call, **{name: value}) == (201, "", "")


async def test_unknown_property_is_refused_as_hubspot_does(call: Caller) -> None:
    assert await write(call, favourite_colour="red") == (400, "PROPERTY_DOESNT_EXIST", "favourite_colour")


async def test_unknown_property_fails_its_own_input_of_a_batch(call: Caller, sim: Simulator) -> None:
    ids = [(await call("POST", CONTACTS, {"properties": {"city": "Bonn"}})).json["id"] for _ in range(2)]
    inputs = [{"id": ids[0], "properties": {"city": "Ulm"}}, {"id": ids[1], "properties": {"favourite_colour": "red"}}]
    answer = await call("POST", f"{CONTACTS}/batch/update", {"inputs": inputs})
    assert (answer.status, [result["id"] for result in answer.json["results"]]) == (207, ids[:1])
    assert answer.json["errors"][0]["errors"][0]["code"] == "PROPERTY_DOESNT_EXIST"


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ({"renewal": "soon"}, "INVALID_LONG"),
        ({"renewal": "20261224T00"}, "INVALID_LONG"),
        ({"renewal": "2026-12-24T01:00:00Z"}, "INVALID_DATE"),
        ({"renewal": "1577836801000"}, "INVALID_DATE"),
        ({"score": "many"}, "INVALID_INTEGER"),
        *(({"score": text}, "INVALID_INTEGER") for text in ("nan", "inf", "1_000", "1,5", "0x10", " 5", "٣")),
        ({"hs_task_subject": "a property of tasks"}, "PROPERTY_DOESNT_EXIST"),
        ({"lifecyclestage": "friend"}, "INVALID_OPTION"),
        ({"lifecyclestage": "Lead"}, "INVALID_OPTION"),
        ({"lifecyclestage": "lead;customer"}, "INVALID_OPTION"),
        ({"hubspot_owner_id": "Ada"}, "INVALID_INTEGER"),
        ({"num_associated_deals": "3"}, "READ_ONLY_VALUE"),
        ({"hs_date_entered_closedwon": "1577836800000"}, "READ_ONLY_VALUE"),
        ({"hs_object_id": "7"}, "READ_ONLY_VALUE"),
        ({"createdate": "1577836800000"}, "READ_ONLY_VALUE"),
        ({"createdate": ""}, "READ_ONLY_VALUE"),
        ({"hs_analytics_num_visits": "3"}, "READ_ONLY_VALUE"),
        ({"hs_time_to_first_engagement": "3"}, "READ_ONLY_VALUE"),
        ({"ip_city": "Ulm"}, "READ_ONLY_VALUE"),
        ({"city": "x" * 65_537}, "VALUE_TOO_LONG"),
    ],
)
async def test_value_that_the_property_cannot_have_is_refused(
    call: Caller, written: dict[str, object], code: str
) -> None:
    assert await write(call, **written) == (400, code, next(iter(written)))


@pytest.mark.parametrize(
    ("type_name", "status"), [("companies", 400), ("products", 400), ("deals", 201), ("tickets", 201)]
)
async def test_create_date_is_written_for_deals_and_tickets_only(call: Caller, type_name: str, status: int) -> None:
    body = {"properties": {"createdate": "2026-12-24T00:00:00Z"}}
    assert (await call("POST", f"/crm/v3/objects/{type_name}", body)).status == status


@pytest.mark.parametrize("value", ["2026-12-24", "1577836800000", "", None])
async def test_date_at_midnight_is_written(call: Caller, value: str | None) -> None:
    assert (await write(call, renewal=value))[0] == 201


async def test_added_property_is_known_from_then_on(call: Caller) -> None:
    options = [{"value": "red", "label": "Red"}, {"value": "blue", "label": "Blue"}]
    body = {"name": "favourite_colour", "label": "Colour", "type": "enumeration", "options": options}
    assert (await call("POST", PROPERTIES, body)).status == 201
    assert (await call("POST", PROPERTIES, body)).status == 409
    assert await write(call, favourite_colour="red;blue") == (201, "", "")
    assert await write(call, favourite_colour="green") == (400, "INVALID_OPTION", "favourite_colour")
    listed = (await call("GET", PROPERTIES)).json["results"]
    assert [each["name"] for each in listed][-3:] == ["renewal", "score", "favourite_colour"]


async def test_every_refused_property_is_named(call: Caller) -> None:
    answer = await call(
        "POST", CONTACTS, {"properties": {"x": "1", "score": "y", "city": "Ulm", "lastmodifieddate": "1"}}
    )
    assert [error["code"] for error in answer.json["errors"]] == [
        "PROPERTY_DOESNT_EXIST", "INVALID_INTEGER", "READ_ONLY_VALUE",
    ]  # fmt: skip


async def test_property_of_the_account_can_be_unique_and_read_only(call: Caller) -> None:
    for body in (
        {"name": "erp_id", "hasUniqueValue": True},
        {"name": "total", "type": "number", "modificationMetadata": {"readOnlyValue": True}},
        {"name": "size", "type": "enumeration", "fieldType": "select", "options": [{"value": "s"}, {"value": "m"}]},
    ):
        assert (await call("POST", PROPERTIES, body)).status == 201
    assert await write(call, erp_id="E7") == (201, "", "")
    assert await write(call, erp_id="e7") == (400, "CONFLICTING_UNIQUE_VALUE", "erp_id")
    assert await write(call, total="3") == (400, "READ_ONLY_VALUE", "total")
    assert await write(call, size="s;m") == (400, "INVALID_OPTION", "size")


async def test_batch_with_one_unique_value_twice_creates_nothing(call: Caller, sim: Simulator) -> None:
    await call("POST", PROPERTIES, {"name": "erp_id", "hasUniqueValue": True})
    inputs = [{"properties": {"erp_id": text}} for text in ("E7", "e7")]
    assert (await call("POST", f"{CONTACTS}/batch/create", {"inputs": inputs})).status == 400
    assert list(sim.crm.all_records()) == []


async def test_options_can_be_added(call: Caller, sim: Simulator) -> None:
    sim.crm.schema.add_options(sim.crm.types.resolve("contacts"), "lifecyclestage", ["partner"])
    assert await write(call, lifecyclestage="partner") == (201, "", "")
    assert await write(call, lifecyclestage="friend") == (400, "INVALID_OPTION", "lifecyclestage")


async def test_custom_type_takes_any_property_until_one_is_added(call: Caller) -> None:
    for name, status in (("plate", 201), ("colour", 201)):
        assert (await call("POST", "/crm/v3/objects/2-77", {"properties": {name: "x"}})).status == status
    assert (await call("POST", "/crm/v3/properties/2-77", {"name": "plate"})).status == 201
    for name, status in (("plate", 201), ("colour", 400), ("hs_pinned_engagement_id", 201), ("hubspot_owner_id", 400)):
        assert (await call("POST", "/crm/v3/objects/2-77", {"properties": {name: "x"}})).status == status, name


async def test_at_most_ten_properties_of_a_type_are_unique(call: Caller) -> None:
    bodies = [{"name": f"key_{number}", "hasUniqueValue": True} for number in range(10)]
    statuses = [(await call("POST", PROPERTIES, body)).status for body in bodies]
    assert statuses == [201] * 9 + [400]  # email is unique, too


@pytest.mark.parametrize(
    "body",
    [
        {"name": "hs_x"},
        {"name": "A b"},
        {"name": "x", "type": "colour"},
        {"name": "x", "options": [{"value": "a"}]},
        {"name": "x", "type": "date", "hasUniqueValue": True},
        {},
    ],
)
async def test_property_that_hubspot_would_not_add_is_refused(call: Caller, body: dict[str, object]) -> None:
    assert (await call("POST", PROPERTIES, body)).status == 400


async def test_control_endpoint_adds_a_property(call: Caller) -> None:
    body = {"object_type": "contacts", "name": "favourite_colour"}
    assert (await call("POST", "/_sim/properties", body)).status == 200
    assert await write(call, favourite_colour="red") == (201, "", "")


async def test_refused_property_is_reported_once_with_the_option_that_adds_it(
    call: Caller, sim: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    sim.portal.report_unknown_property = UnknownProperties().print_once
    for name in ("favourite_colour", "favourite_colour", "ada@example.org"):
        await write(call, **{name: "x"})
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("`spokes up --property contacts.favourite_colour`.")


@pytest.mark.parametrize("text", ["favourite_colour", "contacts.", "contacts.x:colour", "cars.x", "contacts.hs x"])
def test_property_of_another_form_is_refused_with_a_sentence(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["--property", text])
    assert "argument --property: must be" in capsys.readouterr().err
