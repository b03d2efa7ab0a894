"""Injected faults, over real HTTP."""

import asyncio
import time
from random import Random

import aiohttp
import pytest

from spokes.simulator.api.faults import Fault, FaultBody, draw_latency_s
from spokes.simulator.app import Simulator
from spokes.simulator.config import Latency
from tests.support.hubspot.probe import Caller

CONTACTS = "/crm/v3/objects/contacts"


async def statuses(call: Caller, count: int) -> list[int]:
    return [(await call("GET", CONTACTS)).status for _ in range(count)]


@pytest.mark.parametrize("status", [423, 477, 500, 502, 503, 504, 521, 523, 524])
async def test_any_status_can_be_injected(sim: Simulator, call: Caller, status: int) -> None:
    sim.faults.add(Fault(status=status))
    reply = await call("GET", CONTACTS)
    assert (reply.status, reply.json["status"]) == (status, "error")


async def test_rule_hits_the_nth_call(sim: Simulator, call: Caller) -> None:
    sim.faults.add(Fault(status=503, nth=frozenset({2})))
    assert await statuses(call, 3) == [200, 503, 200]


async def test_rule_hits_every_nth_call(sim: Simulator, call: Caller) -> None:
    sim.faults.add(Fault(status=503, every=2))
    assert await statuses(call, 4) == [200, 503, 200, 503]


async def test_rule_ends_after_its_number_of_faults(sim: Simulator, call: Caller) -> None:
    sim.faults.add(Fault(status=503, times=1))
    assert await statuses(call, 2) == [503, 200]


async def test_rule_applies_to_its_method_and_path_only(sim: Simulator, call: Caller) -> None:
    sim.faults.add(Fault(method="POST", path="*/batch/*", status=503))
    assert (await call("GET", CONTACTS)).status == 200
    assert (await call("POST", f"{CONTACTS}/batch/read", {"inputs": []})).status == 503


async def test_share_is_the_same_with_the_same_seed() -> None:
    async def run() -> list[int]:
        async with Simulator() as sim, Caller(sim.url) as call:
            sim.faults.add(Fault(status=503, share=0.5))
            return await statuses(call, 20)

    first = await run()
    assert set(first) == {200, 503}
    assert await run() == first


async def test_retry_after_is_sent_as_configured(sim: Simulator, call: Caller) -> None:
    sim.faults.add(Fault(status=477, retry_after="3600"))
    assert (await call("GET", CONTACTS)).headers["Retry-After"] == "3600"


async def test_body_can_be_html(sim: Simulator, call: Caller) -> None:
    sim.faults.add(Fault(status=502, body=FaultBody.HTML))
    reply = await call("GET", CONTACTS)
    assert reply.headers["Content-Type"].startswith("text/html")
    assert reply.body.startswith(b"<html>")


async def test_body_can_be_empty(sim: Simulator, call: Caller) -> None:
    sim.faults.add(Fault(status=502, body=FaultBody.EMPTY))
    assert (await call("GET", CONTACTS)).body == b""


async def test_body_can_be_invalid_utf8(sim: Simulator, call: Caller) -> None:
    sim.faults.add(Fault(status=502, body=FaultBody.NON_UTF8))
    body = (await call("GET", CONTACTS)).body
    with pytest.raises(UnicodeDecodeError):
        body.decode()


async def test_connection_can_be_reset_without_a_response(sim: Simulator, call: Caller) -> None:
    sim.faults.add(Fault(method="POST", reset=True))
    with pytest.raises(aiohttp.ClientError):
        await call("POST", CONTACTS, {"properties": {}})
    assert [logged.status for logged in sim.requests] == [0]


async def test_failed_call_changed_nothing(sim: Simulator, call: Caller) -> None:
    sim.faults.add(Fault(status=500))
    await call("POST", CONTACTS, {"properties": {}})
    assert not list(sim.crm.all_records())


async def test_call_can_fail_after_it_took_effect(sim: Simulator, call: Caller) -> None:
    sim.faults.add(Fault(status=500, after_effect=True))
    assert (await call("POST", CONTACTS, {"properties": {}})).status == 500
    assert len(list(sim.crm.all_records())) == 1


async def test_rule_with_latency_only_delays_a_call(sim: Simulator, call: Caller) -> None:
    sim.faults.add(Fault(latency=Latency(60), times=1))
    started = time.monotonic()
    assert (await call("GET", CONTACTS)).status == 200
    assert time.monotonic() - started >= 0.06


async def test_delayed_call_can_take_effect_before_its_delay(sim: Simulator, call: Caller) -> None:
    sim.faults.add(Fault(latency=Latency(60_000), after_effect=True))
    waiting = asyncio.create_task(call("POST", CONTACTS, {"properties": {}}))
    async with asyncio.timeout(20):
        while not list(sim.crm.all_records()):  # noqa: ASYNC110 - the simulator notifies nobody
            await asyncio.sleep(0.01)
    assert not waiting.done()
    waiting.cancel()


def test_one_latency_in_a_hundred_exceeds_p99() -> None:
    rng = Random(1)
    drawn = sorted(draw_latency_s(Latency(100, 400), rng) for _ in range(10_000))
    assert drawn[5_000] == pytest.approx(0.1, rel=0.05)
    assert drawn[9_900] == pytest.approx(0.4, rel=0.1)
