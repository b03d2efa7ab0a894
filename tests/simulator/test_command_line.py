"""The simulator as a process, its command line, and its random traffic."""

import asyncio
import signal
import sys
import time
from random import Random

import pytest

from spokes.simulator.__main__ import build_config, build_parser
from spokes.simulator.app import Simulator
from spokes.simulator.config import PortalConfig, SimulatorConfig, Target
from spokes.simulator.default_subscriptions import DEFAULT_SUBSCRIPTIONS
from spokes.simulator.demo.traffic import Traffic
from spokes.simulator.webhooks.http_sender import wait_until_listening
from tests.support.free_ports import free_port
from tests.support.hubspot.probe import Caller, ReceivedRequest, TargetProbe
from tests.support.waiting import until


def test_help_contains_examples() -> None:
    text = build_parser().format_help()
    assert "examples:" in text
    assert "python -m spokes.simulator demo" in text


def test_target_without_public_url_is_called_and_signed() -> None:
    config = build_config(build_parser().parse_args(["--target", "http://127.0.0.1:8080/in"]))
    assert config.target == Target("http://127.0.0.1:8080/in")


def test_public_url_is_signed_and_target_is_called() -> None:
    arguments = ["--target", "http://127.0.0.1:8080/in", "--public-url", "https://hooks.example.com/in"]
    config = build_config(build_parser().parse_args(arguments))
    assert config.target == Target("https://hooks.example.com/in", "http://127.0.0.1:8080/in")


async def test_process_serves_sends_and_ends_on_a_signal() -> None:
    arrived = asyncio.Event()

    async def respond(_: ReceivedRequest) -> int:
        arrived.set()
        return 202

    async with TargetProbe(respond) as target:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "spokes.simulator", "--port", "0", "--target", target.url, "--traffic", "200"),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().split(" on ")[1].split()[0]
        async with Caller(url) as call:
            assert (await call("GET", "/account-info/v3/details")).status == 200
        await arrived.wait()
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ("contact.creation", {("contact.creation", None)}),
        ("contact.propertyChange:phone", {("contact.propertyChange", "phone")}),
        ("contact.propertyChange:email", {("object.propertyChange", "email")}),
        ("deal.propertyChange", {("deal.propertyChange", "dealstage"), ("deal.propertyChange", "amount")}),
        ("2-1234567.creation,ticket.merge", {("object.creation", None), ("ticket.merge", None)}),
        ("lead.creation", set()),
    ],
)
def test_only_chosen_events_are_sent(events: str, expected: set[tuple[str, str | None]]) -> None:
    (portal,) = build_config(build_parser().parse_args(["--events", events])).portals
    assert {(each.subscription_type, each.property_name) for each in portal.subscriptions} == expected


@pytest.mark.parametrize(("events", "count"), [("", len(DEFAULT_SUBSCRIPTIONS)), ("object.creation", 5)])
def test_all_events_are_sent_by_default_and_for_any_object(events: str, count: int) -> None:
    (portal,) = build_config(build_parser().parse_args(["--events", events])).portals
    assert len(portal.subscriptions) == count


async def test_edits_begin_when_the_target_accepts_connections() -> None:
    port = free_port()
    target = Target(f"http://127.0.0.1:{port}/in")
    waiting = asyncio.create_task(wait_until_listening(target))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", port)
    async with server, asyncio.timeout(20):
        await waiting


@pytest.mark.parametrize("seed", [1, 2])
async def test_traffic_is_the_same_with_the_same_seed(seed: int) -> None:
    async def work() -> list[tuple[object, object]]:
        portal = PortalConfig(subscriptions=DEFAULT_SUBSCRIPTIONS)
        async with Simulator(SimulatorConfig(portals=(portal,))) as sim:
            traffic = Traffic(sim.portal, Random(seed))
            for _ in range(300):
                traffic.make_edit()
            elements = [event.element for event in sim.deliveries.events]
            return [(e["subscriptionType"], e.get("objectId")) for e in elements if isinstance(e, dict)]

    first = await work()
    assert len({kind for kind, _ in first}) > 5
    assert await work() == first


async def test_traffic_keeps_the_rate() -> None:
    portal = PortalConfig(subscriptions=DEFAULT_SUBSCRIPTIONS)
    async with Simulator(SimulatorConfig(portals=(portal,))) as sim:
        traffic = Traffic(sim.portal, Random(1))
        began = time.monotonic()
        work = asyncio.create_task(traffic.run(200, lambda: len(sim.deliveries.events), sim.clock))
        await until(lambda: len(sim.deliveries.events) >= 100)
        work.cancel()
        assert time.monotonic() - began > 0.35  # each edit may make more events than one
