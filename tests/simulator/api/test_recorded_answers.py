"""The simulator answers as HubSpot did in answers that are public (recorded_answers.json names the source of each)."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from spokes.simulator.config import PortalConfig, SimulatorConfig
from spokes.simulator.property_definition import PropertyDefinition
from tests.support.hubspot.probe import Caller

RECORDED: list[dict[str, Any]] = orjson.loads(Path(__file__).with_name("recorded_answers.json").read_bytes())
OWN_PROPERTIES = {
    "erp_id": PropertyDefinition(unique=True),
    "renewal": PropertyDefinition("date"),
    "score": PropertyDefinition("number"),
    "vip": PropertyDefinition("bool"),
}


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorConfig(portals=(PortalConfig(properties={"contacts": OWN_PROPERTIES}),))) as running:
        yield running


@pytest.fixture
def ids(sim: Simulator) -> dict[str, str]:
    """The records that the calls name: two contacts and a company."""
    contacts, companies = sim.crm.types.resolve("contacts"), sim.crm.types.resolve("companies")
    ada = {"email": "ada@example.org", "erp_id": "E7", "lifecyclestage": "customer"}
    return {
        "ada": sim.crm.create(contacts, ada, USER).id,
        "bob": sim.crm.create(contacts, {"email": "bob@example.org"}, USER).id,
        "acme": sim.crm.create(companies, {"name": "Acme"}, USER).id,
    }


@pytest.mark.parametrize("recorded", RECORDED, ids=[recorded["rule"] for recorded in RECORDED])
async def test_simulator_answers_as_hubspot_did(call: Caller, ids: dict[str, str], recorded: dict[str, Any]) -> None:
    recorded = with_ids(recorded, ids)
    request, expected = recorded["call"], recorded["answer"]

    reply = await call(request["method"], request["path"], request.get("body"))

    assert reply.status == expected["status"], reply.json
    assert reply.json.get("category") == expected.get("category")
    assert re.fullmatch(expected.get("message", ".*"), reply.json.get("message", ""), re.DOTALL), reply.json
    assert reply.json.get("context", {}) == expected.get("context", reply.json.get("context", {}))
    if "errors" in expected:
        assert_findings(reply.json["errors"], expected["errors"])
    if "entries" in expected:
        assert reply.json["numErrors"] == len(expected["entries"])
        for entry, known in zip(reply.json["errors"], expected["entries"], strict=True):
            assert_entry(entry, known)


def with_ids(recorded: dict[str, Any], ids: dict[str, str]) -> Any:
    text = orjson.dumps(recorded).decode()
    for name, object_id in ids.items():
        text = text.replace("{" + name + "}", object_id)
    return orjson.loads(text)


def assert_findings(findings: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert [finding["code"] for finding in findings] == [known["code"] for known in expected]
    for finding, known in zip(findings, expected, strict=True):
        assert finding["context"] == {"propertyName": [known["property"]]}
        assert re.fullmatch(known["message"], finding["message"]), finding["message"]


def assert_entry(entry: dict[str, Any], known: dict[str, Any]) -> None:
    assert (entry["status"], entry["category"]) == ("error", known["category"])
    assert entry["context"].get("ids") == known.get("ids")
    assert entry["context"].get("objectWriteTraceId") == known.get("trace")
    assert entry["context"].get("fromObjectId") == known.get("from")
    assert entry.get("subCategory") == known.get("sub_category")
    assert entry["message"] == known.get("message", entry["message"])
    assert [finding["code"] for finding in entry.get("errors", [])] == ([known["code"]] if "code" in known else [])


@pytest.mark.parametrize("recorded", RECORDED, ids=[recorded["rule"] for recorded in RECORDED])
def test_answer_names_its_source(recorded: dict[str, Any]) -> None:
    assert len(recorded["source"]) > len("protocol")
