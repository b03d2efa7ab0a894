"""The rate budget on a real Redis: exact across processes, fair within one, with shared pauses."""

import asyncio
import subprocess
import sys
import time

import pytest
from redis.asyncio import Redis

from spokes.core.errors import (
    CRMUnavailable,
    ObjectLocked,
    ObjectMerged,
    PortalMoving,
    RateLimited,
    TransientCRMError,
)
from spokes.crm.transport.rate_budget import RateBudget, backoff_for_error, pause_too_long_error
from tests.support.deployment import ROOT

PORTAL = 50112233
PROCESS = ROOT / "tests" / "support" / "processes" / "budget_process.py"


def make_budget(redis: Redis, *, limit: int = 5, window_s: float = 0.3, concurrency: int = 32) -> RateBudget:
    return RateBudget(
        redis, limit=limit, search_limit=2, association_limit=3, window_s=window_s, concurrency=concurrency
    )


def most_in_a_window(arrivals: list[float], window_s: float) -> int:
    """Return the most calls in any window; a call exactly one window older does not count."""
    return max(sum(1 for other in arrivals if moment - window_s < other <= moment) for moment in arrivals)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 4])
async def test_limit_holds_over_processes_and_is_used(redis: Redis, valkey_url: str, processes: int) -> None:
    """No call exceeds the limit, and a good part of it is used, even on a machine that runs other tests too."""
    limit, window_s, latency_s, lasts_s = 40, 1.0, 0.1, 2.6
    arguments = [valkey_url, str(limit), *map(repr, (window_s, latency_s, lasts_s))]
    pipe = subprocess.PIPE
    running = [
        await asyncio.create_subprocess_exec(
            sys.executable, str(PROCESS), *arguments, stdin=pipe, stdout=pipe, env={"PYTHONPATH": "."}
        )
        for _ in range(processes)
    ]
    for process in running:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    start = repr(time.monotonic() + 0.1).encode()
    printed = [reported for reported, _ in await asyncio.gather(*(process.communicate(start) for process in running))]
    arrivals = sorted(float(line) for lines in printed for line in lines.split())

    periods = [later - earlier for earlier, later in zip(arrivals, arrivals[limit:], strict=False)]
    assert most_in_a_window(arrivals, window_s) == limit
    assert (window_s + latency_s) / (sum(periods) / len(periods)) >= 0.25  # bench/rate_budget.py measures the share


async def test_slot_returns_a_window_after_the_call_ended_at_any_duration(redis: Redis) -> None:
    budget = make_budget(redis, limit=1, window_s=0.2)
    async with budget.slot(PORTAL, "calls"):
        await asyncio.sleep(0.3)
    ended = time.monotonic()

    async with budget.slot(PORTAL, "calls"):
        waited = time.monotonic() - ended

    assert 0.19 <= waited < 10


async def test_slot_of_a_dead_process_returns_after_its_lease(redis: Redis) -> None:
    dying = RateBudget(redis, limit=1, search_limit=1, window_s=0.2, call_timeout_s=0.2)
    await dying._acquire_slot(PORTAL, "calls", "abandoned", "interactive")

    started = time.monotonic()
    async with make_budget(redis, limit=1, window_s=0.2).slot(PORTAL, "calls"):
        waited = time.monotonic() - started

    assert 0.38 <= waited < 10


async def test_unused_slot_is_free_at_once(redis: Redis) -> None:
    budget = make_budget(redis, limit=1, window_s=60)
    async with budget.slot(PORTAL, "calls") as slot:
        slot.release_unused()

    assert (await budget.state(PORTAL))["calls"].used == 0


async def test_cancelled_waiter_holds_no_slot(redis: Redis) -> None:
    budget = make_budget(redis, limit=1, window_s=60)
    async with budget.slot(PORTAL, "calls"):
        waiting = asyncio.create_task(budget._acquire_slot(PORTAL, "calls", "other", "interactive"))
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    assert (await budget.state(PORTAL))["calls"].used == 1


async def test_slots_are_granted_in_order_within_a_process(redis: Redis) -> None:
    budget = make_budget(redis, limit=2, window_s=0.1)
    served: list[int] = []

    async def call(number: int) -> None:
        async with budget.slot(PORTAL, "calls"):
            served.append(number)

    await asyncio.gather(*(call(number) for number in range(8)))

    assert served == list(range(8))


async def test_waiting_calls_redis_about_as_often_as_slots_return(redis: Redis) -> None:
    budget = make_budget(redis, limit=2, window_s=0.3)

    async def call() -> None:
        async with budget.slot(PORTAL, "calls"):
            pass

    await budget.state(PORTAL)
    before = int((await redis.info("stats"))["total_commands_processed"])
    await asyncio.gather(*(call() for _ in range(8)))
    commands = int((await redis.info("stats"))["total_commands_processed"]) - before

    scripts = commands / 6  # each script runs about six commands
    assert scripts < 8 * 4


async def test_kinds_and_portals_have_limits_of_their_own(redis: Redis) -> None:
    budget = make_budget(redis)
    async with (
        budget.slot(PORTAL, "calls"),
        budget.slot(PORTAL, "search"),
        budget.slot(PORTAL, "associations"),
        budget.slot(7, "calls"),
    ):
        state = await budget.state(PORTAL)

    assert {kind: (s.limit, s.used) for kind, s in state.items()} == {
        "calls": (5, 1), "search": (2, 1), "associations": (3, 1),
    }  # fmt: skip


async def test_process_holds_no_more_slots_than_it_has_threads(redis: Redis) -> None:
    budget = make_budget(redis, limit=10, concurrency=2)
    held = most = 0

    async def call() -> None:
        nonlocal held, most
        async with budget.slot(PORTAL, "calls"):
            held += 1
            most = max(most, held)
            await asyncio.sleep(0.02)
            held -= 1

    await asyncio.gather(*(call() for _ in range(8)))

    assert most == 2


async def test_few_redis_connections_serve_many_concurrent_calls(valkey_url: str, redis: Redis) -> None:
    few = Redis.from_url(valkey_url, max_connections=5)
    budget = make_budget(few, limit=40, window_s=0.1)

    async def call() -> None:
        async with budget.slot(PORTAL, "calls"):
            await asyncio.sleep(0.02)

    await asyncio.gather(*(call() for _ in range(32)))
    await asyncio.sleep(0.15)

    assert (await budget.state(PORTAL))["calls"].used == 0
    await few.aclose()


@pytest.mark.parametrize("reported", [3, 9])
async def test_limit_reported_by_hubspot_replaces_ours_in_every_process(redis: Redis, reported: int) -> None:
    headers = {"x-hubspot-ratelimit-max": str(reported), "x-hubspot-ratelimit-interval-milliseconds": "300"}
    async with make_budget(redis).slot(PORTAL, "calls") as slot:
        slot.read_headers(headers)

    assert (await make_budget(redis).state(PORTAL))["calls"].limit == reported


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-hubspot-ratelimit-max": "many"},
        {"x-hubspot-ratelimit-max": "0"},
        {"x-hubspot-ratelimit-max": "9" * 5_000},
        {"x-hubspot-ratelimit-daily": "9" * 5_000, "x-hubspot-ratelimit-daily-remaining": "9"},
        {"x-hubspot-ratelimit-max": "9", "x-hubspot-ratelimit-interval-milliseconds": "1000"},
    ],
)
async def test_headers_without_a_valid_limit_change_nothing(redis: Redis, headers: dict[str, str]) -> None:
    budget = make_budget(redis)
    async with budget.slot(PORTAL, "calls") as slot:
        slot.read_headers(headers)

    assert (await budget.state(PORTAL))["calls"].limit == 5


async def test_lower_limit_applies_to_calls_made_before(redis: Redis) -> None:
    budget = make_budget(redis, limit=5, window_s=0.3)
    began = []
    for reported in ("", "", "", "2"):
        began.append(time.monotonic())
        async with budget.slot(PORTAL, "calls") as slot:
            slot.read_headers({"x-hubspot-ratelimit-max": reported})

    async with budget.slot(PORTAL, "calls"):
        third_returned_in_s = time.monotonic() - began[2]

    assert third_returned_in_s > 0.29


async def test_pause_applies_to_every_process(redis: Redis) -> None:
    await make_budget(redis).pause(PORTAL, "calls", 0.25, "SECONDLY")

    started = time.monotonic()
    async with make_budget(redis).slot(PORTAL, "calls"):
        waited = time.monotonic() - started

    assert 0.24 <= waited < 10


async def test_pause_of_one_kind_does_not_affect_the_others(redis: Redis) -> None:
    budget = make_budget(redis)
    await budget.pause(PORTAL, "search", 25)

    async with asyncio.timeout(20), budget.slot(PORTAL, "calls"), budget.slot(PORTAL, "associations"):
        state = await budget.state(PORTAL)

    assert 0 < state["search"].waiting_s <= 25


async def test_pause_of_the_portal_applies_to_every_kind(redis: Redis) -> None:
    budget = make_budget(redis)
    await budget.pause(PORTAL, "portal", 20, "DAILY")

    state = await budget.state(PORTAL)

    assert {s.reason for s in state.values()} == {"DAILY"}
    assert all(0 < s.waiting_s <= 20 for s in state.values())


async def test_shorter_pause_does_not_end_a_longer_one(redis: Redis) -> None:
    budget = make_budget(redis)
    await budget.pause(PORTAL, "calls", 20, "longer")
    await budget.pause(PORTAL, "calls", 1, "shorter")

    state = (await budget.state(PORTAL))["calls"]

    assert (1 < state.waiting_s <= 20, state.reason) == (True, "longer")


async def test_operator_ends_a_pause_early(redis: Redis) -> None:
    budget = make_budget(redis)
    await budget.pause(PORTAL, "calls", 20)
    await budget.resume(PORTAL, "calls")

    async with asyncio.timeout(15), budget.slot(PORTAL, "calls"):
        pass


@pytest.mark.parametrize(
    ("reason", "error_class"),
    [("DAILY", RateLimited), (PortalMoving.reason, PortalMoving), ("object_locked", RateLimited)],
)
async def test_pause_too_long_to_wait_out_is_an_error_with_its_wait(
    redis: Redis, reason: str, error_class: type[TransientCRMError]
) -> None:
    budget = make_budget(redis)
    await budget.pause(PORTAL, "portal", 3600, reason)

    with pytest.raises(error_class) as raised:
        async with budget.slot(PORTAL, "calls"):
            pytest.fail("no slot may be given")

    assert raised.value.retry_after_s == pytest.approx(3600, abs=30)


def test_call_that_was_not_made_has_no_status() -> None:
    assert pause_too_long_error(3600, "DAILY").status == 0


async def test_failed_call_that_names_a_wait_pauses_every_process(redis: Redis) -> None:
    with pytest.raises(RateLimited):
        async with make_budget(redis).slot(PORTAL, "calls"):
            raise RateLimited(policy="TEN_SECONDLY_ROLLING", retry_after_s=40)

    state = (await make_budget(redis).state(PORTAL))["calls"]

    assert (10 < state.waiting_s <= 40, state.reason) == (True, "TEN_SECONDLY_ROLLING")


@pytest.mark.parametrize(
    ("error", "backoff"),
    [
        (RateLimited(policy="TEN_SECONDLY_ROLLING"), ("calls", 10.0, "TEN_SECONDLY_ROLLING")),
        (RateLimited(policy="SECONDLY"), ("calls", 1.0, "SECONDLY")),
        (RateLimited(policy="DAILY"), ("portal", 900.0, "DAILY")),
        (RateLimited(policy="DAILY", retry_after_s=7200), ("portal", 7200, "DAILY")),
        (RateLimited(), ("calls", 10.0, "rate_limited")),
        (ObjectLocked(), ("calls", 2.0, "object_locked")),
        (ObjectLocked(retry_after_s=1), ("calls", 2.0, "object_locked")),
        (PortalMoving(), ("portal", 300.0, "portal_moving")),
        (PortalMoving(retry_after_s=86_400), ("portal", 86_400, "portal_moving")),
        (CRMUnavailable(retry_after_s=3), None),
        (CRMUnavailable(), None),
        (ObjectLocked(retry_after_s=5), ("calls", 5, "object_locked")),
        (ObjectMerged(retry_after_s=3), ("calls", 3, "object_merged")),
        (ObjectMerged(), None),
    ],
)
def test_backoff_for_each_error(error: TransientCRMError, backoff: tuple[str, float, str] | None) -> None:
    assert backoff_for_error(error, "calls", 10.0) == backoff


async def test_without_redis_no_call_is_made() -> None:
    redis = Redis.from_url("redis://127.0.0.1:1")

    with pytest.raises(CRMUnavailable):
        async with make_budget(redis).slot(PORTAL, "calls"):
            pytest.fail("no slot may be given")

    await redis.aclose()


async def test_budget_survives_a_script_flush(redis: Redis) -> None:
    budget = make_budget(redis, window_s=60)
    await budget.state(PORTAL)
    await redis.script_flush()

    async with budget.slot(PORTAL, "calls"):
        pass

    assert (await budget.state(PORTAL))["calls"].used == 1


async def test_every_budget_key_expires(redis: Redis) -> None:
    budget = make_budget(redis, window_s=60)
    await budget.pause(PORTAL, "search", 20)
    async with budget.slot(PORTAL, "calls") as slot:
        slot.read_headers({"x-hubspot-ratelimit-max": "7"})

    keys = [key async for key in redis.scan_iter()]

    assert len(keys) == 3
    assert all([await redis.pttl(key) > 0 for key in keys])
