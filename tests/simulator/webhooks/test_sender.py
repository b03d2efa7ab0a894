"""Delivery of events over real HTTP: batches, concurrency, retries, and the delivery log."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from random import Random

import pytest

from spokes.simulator.app import Simulator
from spokes.simulator.config import PortalConfig, SenderConfig, SimulatorConfig, Target
from spokes.simulator.webhooks import signing
from spokes.simulator.webhooks.delivery_log import DeliveryState
from spokes.simulator.webhooks.retry_schedule import retry_delay_s
from spokes.simulator.webhooks.sender import NoTarget
from tests.support.hubspot.probe import ReceivedRequest, TargetProbe

PUBLIC = "https://hooks.example.com/webhooks/hubspot"
PORTAL = PortalConfig().portal_id
CONFIG = SimulatorConfig(speed=1e7)


@pytest.fixture
async def sim(target: TargetProbe) -> AsyncIterator[Simulator]:
    async with Simulator(replace(CONFIG, target=Target(PUBLIC, f"{target.url}/in"))) as running:
        yield running


def numbered(count: int) -> list[dict[str, int]]:
    return [{"eventId": number, "attemptNumber": 0} for number in range(count)]


async def test_events_are_sent_in_batches_of_at_most_100(sim: Simulator, target: TargetProbe) -> None:
    sim.sender.submit(PORTAL, numbered(250))
    await sim.sender.wait_until_drained()
    assert sorted(len(request.events) for request in target.requests) == [50, 100, 100]


async def test_at_most_ten_requests_are_in_flight(sim: Simulator, target: TargetProbe) -> None:
    async def slow(_: ReceivedRequest) -> int:
        await asyncio.sleep(0.02)
        return 200

    target.answer = slow
    sim.sender.submit(PORTAL, numbered(2500))
    await sim.sender.wait_until_drained()
    assert max(request.open_requests for request in target.requests) == sim.sender.peak_in_flight == 10


async def test_request_is_signed_for_the_public_url_and_sent_to_the_connect_url(
    sim: Simulator, target: TargetProbe
) -> None:
    sim.sender.submit(PORTAL, numbered(1))
    await sim.sender.wait_until_drained()
    (request,) = target.requests
    timestamp = request.headers["X-HubSpot-Request-Timestamp"]
    expected = signing.signature_v3(CONFIG.client_secret, "POST", PUBLIC, request.body, timestamp)
    assert request.headers["X-HubSpot-Signature-v3"] == expected
    assert (request.path, request.headers["Host"]) == ("/in", "hooks.example.com")
    assert request.headers["X-Forwarded-Proto"] == "https"


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_any_2xx_acknowledges(sim: Simulator, target: TargetProbe, status: int) -> None:
    async def respond(_: ReceivedRequest) -> int:
        return status

    target.answer = respond
    sim.sender.submit(PORTAL, numbered(3))
    await sim.sender.wait_until_drained()
    assert sim.deliveries.counts == {DeliveryState.PENDING: 0, DeliveryState.ACKNOWLEDGED: 3, DeliveryState.LOST: 0}


@pytest.mark.parametrize("status", [400, 401, 404, 413, 429, 500, 503])
async def test_any_4xx_or_5xx_is_retried_with_the_next_attempt_number(
    sim: Simulator, target: TargetProbe, status: int
) -> None:
    async def once(_: ReceivedRequest) -> int:
        return status if len(target.requests) == 1 else 202

    target.answer = once
    sim.sender.submit(PORTAL, numbered(1))
    await sim.sender.wait_until_drained()
    assert [event["attemptNumber"] for event in target.events] == [0, 1]


async def test_event_is_lost_after_ten_retries(sim: Simulator, target: TargetProbe) -> None:
    async def refuse(_: ReceivedRequest) -> int:
        return 500

    target.answer = refuse
    (event,) = sim.sender.submit(PORTAL, numbered(1))
    await sim.sender.wait_until_drained()
    assert [sent["attemptNumber"] for sent in target.events] == list(range(11))
    assert (event.state, len(event.attempts)) == (DeliveryState.LOST, 11)


async def test_every_attempt_has_a_new_timestamp(sim: Simulator, target: TargetProbe) -> None:
    async def once(_: ReceivedRequest) -> int:
        await asyncio.sleep(0.01)
        return 500 if len(target.requests) == 1 else 202

    target.answer = once
    sim.sender.submit(PORTAL, numbered(1))
    await sim.sender.wait_until_drained()
    first, second = (int(request.headers["X-HubSpot-Request-Timestamp"]) for request in target.requests)
    assert second > first


async def test_response_after_the_time_out_is_a_failure(target: TargetProbe) -> None:
    async def slow_once(_: ReceivedRequest) -> int:
        await asyncio.sleep(30 if len(target.requests) == 1 else 0)
        return 202

    target.answer = slow_once
    config = replace(CONFIG, target=Target(target.url), sender=SenderConfig(timeout_s=1))
    async with Simulator(config) as sim:
        sim.sender.submit(PORTAL, numbered(1))
        await sim.sender.wait_until_drained()
        assert [attempt.failure for attempt in sim.deliveries.attempts] == ["timeout", None]


async def test_refused_connection_is_a_failure() -> None:
    config = replace(CONFIG, target=Target("http://127.0.0.1:9/in"), sender=SenderConfig(max_retries=1))
    async with Simulator(config) as sim:
        sim.sender.submit(PORTAL, numbered(1))
        await sim.sender.wait_until_drained()
        assert [attempt.failure for attempt in sim.deliveries.attempts] == ["connection"] * 2


async def test_redirect_is_not_followed_and_acknowledges_nothing(sim: Simulator, target: TargetProbe) -> None:
    async def redirect_once(_: ReceivedRequest) -> int:
        return 308 if len(target.requests) == 1 else 202

    target.answer = redirect_once
    sim.sender.submit(PORTAL, numbered(1))
    await sim.sender.wait_until_drained()
    assert [attempt.status for attempt in sim.deliveries.attempts] == [308, 202]
    assert {request.path for request in target.requests} == {"/in"}


async def test_failed_batch_can_be_retried_in_two_parts(target: TargetProbe) -> None:
    async def once(_: ReceivedRequest) -> int:
        return 500 if len(target.requests) == 1 else 202

    target.answer = once
    # At this speed the two parts, minutes apart in HubSpot's time, are still sent separately.
    config = replace(CONFIG, speed=400, target=Target(target.url), sender=SenderConfig(split_share=1, linger_s=0))
    async with Simulator(config) as sim:
        sim.sender.submit(PORTAL, numbered(10))
        await sim.sender.wait_until_drained()
    assert [len(request.events) for request in target.requests] == [10, 5, 5]


async def test_duplicate_share_of_events_is_sent_twice(target: TargetProbe) -> None:
    config = replace(CONFIG, target=Target(target.url), sender=SenderConfig(duplicate_share=1))
    async with Simulator(config) as sim:
        sim.sender.submit(PORTAL, numbered(2))
        await sim.sender.wait_until_drained()
    assert sorted(event["eventId"] for event in target.events) == [0, 0, 1, 1]


async def test_held_events_wait_until_they_are_released(sim: Simulator, target: TargetProbe) -> None:
    sim.sender.hold()
    for number in range(3):
        sim.sender.submit(PORTAL, [{"eventId": number}])
    await asyncio.sleep(0.05)
    assert target.requests == []
    sim.sender.release()
    await sim.sender.wait_until_drained()
    assert [len(request.events) for request in target.requests] == [3]


async def test_events_wait_for_a_target(target: TargetProbe) -> None:
    async with Simulator(CONFIG) as sim:
        sim.sender.submit(PORTAL, numbered(1))
        sim.sender.target = Target(target.url)
        await sim.sender.wait_until_drained()
    assert len(target.events) == 1


async def test_elements_of_any_kind_can_be_sent(sim: Simulator, target: TargetProbe) -> None:
    sim.sender.submit(PORTAL, [1, "two", None, {"eventId": "three"}])
    await sim.sender.wait_until_drained()
    assert target.events == [1, "two", None, {"eventId": "three"}]


async def test_single_request_is_not_retried(sim: Simulator, target: TargetProbe) -> None:
    async def refuse(_: ReceivedRequest) -> int:
        return 401

    target.answer = refuse
    attempt = await sim.sender.send(b"no json", variant=signing.SIGNING_VARIANTS["forged"])
    assert (attempt.status, attempt.acknowledged) == (401, False)
    assert [request.body for request in target.requests] == [b"no json"]


async def test_single_request_needs_a_target() -> None:
    async with Simulator(CONFIG) as sim:
        with pytest.raises(NoTarget):
            await sim.sender.send([])


def test_retry_delays_grow_and_fit_into_a_day() -> None:
    for seed in range(200):
        rng = Random(seed)
        delays = [retry_delay_s(retry, rng) for retry in range(1, 11)]
        assert delays == sorted(delays)
        assert sum(delays) < 24 * 3600
