"""Control endpoints, as another process uses them."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from spokes.simulator.app import Simulator
from spokes.simulator.config import PortalConfig, SimulatorConfig, Subscription, Target
from tests.support.hubspot.probe import Caller, TargetProbe


@pytest.fixture
async def sim(target: TargetProbe) -> AsyncIterator[Simulator]:
    portal = PortalConfig(subscriptions=(Subscription("contact.creation"),))
    async with Simulator(SimulatorConfig(portals=(portal,), target=Target(target.url), speed=1e7)) as running:
        yield running


async def test_overview_describes_every_endpoint(call: Caller) -> None:
    endpoints = (await call("GET", "/_sim/")).json["endpoints"]
    assert len(endpoints) == 37
    assert all(endpoints.values())


async def test_edit_changes_the_crm_and_is_delivered(sim: Simulator, call: Caller, target: TargetProbe) -> None:
    edit = {"edit": "create", "type": "contacts", "properties": {"email": "ada@mail.example"}}
    id_ = (await call("POST", "/_sim/edits", edit)).json["id"]
    await sim.sender.wait_until_drained()
    assert [event["objectId"] for event in target.events] == [int(id_)]


async def test_every_kind_of_edit_is_applied(call: Caller) -> None:
    contact = {"type": "contacts", "id": "101"}
    edits = [
        {"edit": "create", **contact, "properties": {"email": "a@mail.example"}},
        {"edit": "create", "type": "contacts", "id": "102", "properties": {}},
        {"edit": "create", "type": "contacts", "id": "103", "properties": {}},
        {"edit": "create", "type": "companies", "id": "7", "properties": {}},
        {"edit": "update", **contact, "properties": {"phone": "1"}, "source": "IMPORT"},
        {"edit": "associate", **contact, "to_type": "companies", "to_id": "7", "association_type_id": 1},
        {"edit": "dissociate", **contact, "to_type": "companies", "to_id": "7"},
        {"edit": "delete", **contact},
        {"edit": "restore", **contact},
        {"edit": "merge", "type": "contacts", "primary_id": "101", "other_id": "102"},
        {"edit": "erase", "type": "contacts", "id": "103"},
        {"edit": "start_thread"},
        {"edit": "message", "thread_id": "9"},
        {"edit": "set_thread", "thread_id": "9", "name": "status", "value": "CLOSED"},
        {"edit": "delete_thread", "thread_id": "9"},
        {"edit": "erase_thread", "thread_id": "9"},
    ]
    assert (await call("POST", "/_sim/edits", edits)).status == 200
    types = [record["type"] for record in (await call("GET", "/_sim/objects")).json]
    assert sorted(types) == ["companies", "contacts"]


async def test_unknown_edit_is_a_400_that_lists_the_known_ones(call: Caller) -> None:
    reply = await call("POST", "/_sim/edits", {"edit": "explode"})
    assert reply.status == 400
    assert "create" in reply.json["message"]


async def test_log_of_calls_can_be_read(call: Caller) -> None:
    await call("POST", "/crm/v3/objects/contacts", {"properties": {"phone": "1"}})
    await call("GET", "/crm/v3/objects/contacts/9")
    (logged,) = (await call("GET", "/_sim/requests", method="POST")).json
    assert (logged["path"], logged["status"]) == ("/crm/v3/objects/contacts", 201)
    assert logged["writes"][0]["properties"] == {"phone": "1"}
    assert (await call("GET", "/_sim/requests/counts")).json == {"201": 1, "404": 1}


async def test_limits_can_be_changed_and_their_counts_read(call: Caller) -> None:
    await call("PUT", "/_sim/limits", {"ten_secondly": 1})
    statuses = [(await call("GET", "/crm/v3/objects/contacts")).status for _ in range(3)]
    assert statuses == [200, 429, 429]
    assert (await call("GET", "/_sim/limits")).json["truth"]["refused"] == 2


async def test_fault_can_be_added_and_removed(call: Caller) -> None:
    fault = {"status": 503, "nth": [1, 2], "body": "html", "latency": {"median_ms": 1}}
    assert (await call("POST", "/_sim/faults", fault)).status == 200
    assert (await call("GET", "/crm/v3/objects/contacts")).status == 503
    assert [rule["hits"] for rule in (await call("GET", "/_sim/faults")).json] == [1]
    await call("DELETE", "/_sim/faults")
    assert (await call("GET", "/crm/v3/objects/contacts")).status == 200


async def test_misspelt_setting_is_a_400(call: Caller) -> None:
    assert (await call("POST", "/_sim/faults", {"stauts": 503})).status == 400


async def test_token_can_be_revoked(call: Caller) -> None:
    await call("PUT", "/_sim/token", {"state": "revoked"})
    assert (await call("GET", "/crm/v3/objects/contacts")).status == 401


async def test_token_can_be_replaced(sim: Simulator, call: Caller) -> None:
    await call("PUT", "/_sim/token", {"token": "pat-na1-new"})
    assert (await call("GET", "/crm/v3/objects/contacts")).status == 401
    async with Caller(sim.url, "pat-na1-new") as renewed:
        assert (await renewed("GET", "/crm/v3/objects/contacts")).status == 200


async def test_forged_request_can_be_sent(call: Caller, target: TargetProbe) -> None:
    attempt = (await call("POST", "/_sim/deliveries/send", b"[{}]", manner="forged")).json
    assert attempt["status"] == 202
    assert [request.body for request in target.requests] == [b"[{}]"]


async def test_deliveries_can_be_read(sim: Simulator, call: Caller) -> None:
    await call("POST", "/_sim/deliveries/submit", [{"eventId": 1, "attemptNumber": 0}])
    await sim.sender.wait_until_drained()
    assert (await call("GET", "/_sim/deliveries")).json["events"]["acknowledged"] == 1
    (event,) = (await call("GET", "/_sim/deliveries/events", state="acknowledged")).json
    (attempt,) = (await call("GET", "/_sim/deliveries/attempts")).json
    assert (event["element"]["eventId"], event["attempts"]) == (1, [attempt["number"]])


async def test_subscriptions_can_be_added_and_removed(call: Caller) -> None:
    body = {"subscription_type": "object.creation", "object_type": "deals"}
    subscription = (await call("POST", "/_sim/subscriptions", body)).json
    assert len((await call("GET", "/_sim/subscriptions")).json) == 2
    await call("DELETE", "/_sim/subscriptions", id=str(subscription["subscription_id"]))
    assert len((await call("GET", "/_sim/subscriptions")).json) == 1


async def test_target_can_be_changed(sim: Simulator, call: Caller) -> None:
    await call("PUT", "/_sim/target", {"public_url": "https://other.example/in"})
    assert sim.sender.target == Target("https://other.example/in")


async def test_reset_empties_everything_but_the_settings(sim: Simulator, call: Caller) -> None:
    await call("POST", "/crm/v3/objects/contacts", {"properties": {}})
    await call("POST", "/_sim/reset")
    assert (list(sim.crm.all_records()), len(sim.requests), len(sim.deliveries.events)) == ([], 0, 0)
    assert len(sim.subscriptions.active) == 1


async def test_query_selects_another_portal(target: TargetProbe) -> None:
    portals = (PortalConfig(portal_id=1), PortalConfig(portal_id=2, token="other"))
    async with Simulator(replace(SimulatorConfig(), portals=portals)) as sim, Caller(sim.url) as call:
        await call("POST", "/_sim/edits", {"edit": "create", "type": "deals", "properties": {}}, portal="2")
        assert (await call("GET", "/_sim/objects")).json == []
        assert len((await call("GET", "/_sim/objects", portal="2")).json) == 1
