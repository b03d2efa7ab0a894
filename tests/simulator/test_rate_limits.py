"""Rate limits: exact counts with a manual clock, and HubSpot's headers and bodies over real HTTP."""

from collections.abc import AsyncIterator

import pytest

from spokes.simulator.app import Simulator
from spokes.simulator.clock import ManualClock
from spokes.simulator.config import Limits, PortalConfig, SimulatorConfig
from spokes.simulator.rate_limits import Meter, Policy, RateLimiter
from tests.support.hubspot.probe import Caller

NOON_MS = 1_795_435_200_000  # 2026-11-23T12:00:00Z


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(now_ms=NOON_MS)


def limiter(clock: ManualClock, limits: Limits) -> RateLimiter:
    return RateLimiter(limits, clock, "UTC")


def test_window_refuses_the_call_after_the_last_allowed_one(clock: ManualClock) -> None:
    limits = limiter(clock, Limits(ten_secondly=3))
    assert [limits.count_call(Meter.ORDINARY) for _ in range(4)] == [None, None, None, Policy.TEN_SECONDLY_ROLLING]


def test_slot_is_free_again_exactly_ten_seconds_after_its_call(clock: ManualClock) -> None:
    limits = limiter(clock, Limits(ten_secondly=1))
    limits.count_call(Meter.ORDINARY)
    clock.advance(9.5)
    assert limits.count_call(Meter.ORDINARY) is Policy.TEN_SECONDLY_ROLLING
    clock.advance(0.5)
    assert limits.count_call(Meter.ORDINARY) is None


def test_window_rolls_and_has_no_fixed_edges(clock: ManualClock) -> None:
    limits = limiter(clock, Limits(ten_secondly=2))
    limits.count_call(Meter.ORDINARY)
    clock.advance(8)
    limits.count_call(Meter.ORDINARY)
    clock.advance(4)
    assert limits.count_call(Meter.ORDINARY) is None
    assert limits.count_call(Meter.ORDINARY) is Policy.TEN_SECONDLY_ROLLING


def test_refused_call_takes_no_slot(clock: ManualClock) -> None:
    limits = limiter(clock, Limits(ten_secondly=1))
    limits.count_call(Meter.ORDINARY)
    clock.advance(6)
    limits.count_call(Meter.ORDINARY)
    clock.advance(4)
    assert limits.count_call(Meter.ORDINARY) is None


def test_counts_contain_refusals_and_the_peak_of_any_window(clock: ManualClock) -> None:
    limits = limiter(clock, Limits(ten_secondly=2))
    for _ in range(5):
        limits.count_call(Meter.ORDINARY)
    clock.advance(60)
    limits.count_call(Meter.ORDINARY)
    truth = limits.counts.meters[Meter.ORDINARY]
    assert (truth.arrived, truth.refused, truth.peak_arrived, truth.peak_accepted) == (6, 3, 5, 2)
    assert limits.counts.refused == 3


def test_search_has_its_own_limit_per_second(clock: ManualClock) -> None:
    limits = limiter(clock, Limits(ten_secondly=1, search_secondly=1))
    limits.count_call(Meter.ORDINARY)
    assert limits.count_call(Meter.SEARCH) is None
    assert limits.count_call(Meter.SEARCH) is Policy.SECONDLY
    clock.advance(1)
    assert limits.count_call(Meter.SEARCH) is None


def test_batch_associations_have_their_own_limit(clock: ManualClock) -> None:
    limits = limiter(clock, Limits(ten_secondly=1, associations_ten_secondly=2))
    limits.count_call(Meter.ORDINARY)
    calls = [limits.count_call(Meter.ASSOCIATIONS) for _ in range(3)]
    assert calls == [None, None, Policy.TEN_SECONDLY_ROLLING]


def test_day_ends_at_midnight_of_the_portal(clock: ManualClock) -> None:
    limits = limiter(clock, Limits(daily=1))
    limits.count_call(Meter.ORDINARY)
    clock.advance(12 * 3600 - 1)
    assert limits.count_call(Meter.ORDINARY) is Policy.DAILY
    clock.advance(1)
    assert limits.count_call(Meter.ORDINARY) is None


@pytest.fixture
async def sim(clock: ManualClock) -> AsyncIterator[Simulator]:
    portal = PortalConfig(limits=Limits(ten_secondly=2, search_secondly=1, retry_after=True))
    async with Simulator(SimulatorConfig(portals=(portal,)), clock=clock) as running:
        yield running


async def test_response_headers_have_the_remaining_calls(call: Caller) -> None:
    headers = (await call("GET", "/crm/v3/objects/contacts")).headers
    assert headers["X-HubSpot-RateLimit-Max"] == "2"
    assert headers["X-HubSpot-RateLimit-Remaining"] == "1"
    assert headers["X-HubSpot-RateLimit-Interval-Milliseconds"] == "10000"
    assert headers["X-HubSpot-RateLimit-Daily-Remaining"] == "624999"


async def test_429_contains_the_policy(call: Caller) -> None:
    for _ in range(2):
        await call("GET", "/crm/v3/objects/contacts")
    reply = await call("GET", "/crm/v3/objects/contacts")
    assert (reply.status, reply.json["policyName"]) == (429, "TEN_SECONDLY_ROLLING")
    assert (reply.json["errorType"], reply.json["message"]) == (
        "RATE_LIMIT",
        "You have reached your ten_secondly_rolling limit.",
    )


async def test_429_has_retry_after_if_the_portal_sends_it(call: Caller) -> None:
    for _ in range(2):
        await call("GET", "/crm/v3/objects/contacts")
    assert int((await call("GET", "/crm/v3/objects/contacts")).headers["Retry-After"]) in {10, 11}


async def test_refused_search_has_the_policy_secondly(call: Caller) -> None:
    await call("POST", "/crm/v3/objects/contacts/search", {})
    reply = await call("POST", "/crm/v3/objects/contacts/search", {})
    assert (reply.status, reply.json["policyName"]) == (429, "SECONDLY")


async def test_call_with_an_unknown_token_does_not_count(sim: Simulator) -> None:
    async with Caller(sim.url, "nonsense") as call:
        await call("GET", "/crm/v3/objects/contacts")
    assert sim.limiter.counts.meters[Meter.ORDINARY].arrived == 0
