"""Slots of the rate budget: their entries in Redis, defaults, and cleanup after failures."""

import asyncio
import time
from contextlib import suppress
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as Disconnected

from spokes.core.errors import CRMUnavailable, RateLimited, TransientCRMError
from spokes.core.priority import Priority
from spokes.core.redis.key_names import budget_keys
from spokes.crm.transport.pacing import BudgetUse
from spokes.crm.transport.rate_budget import CALL_KINDS, CallKind, RateBudget, _read_use, _SlotQueue

PORTAL = 50112233


def make_budget(redis: Redis, *, concurrency: int = 32) -> RateBudget:
    return RateBudget(redis, limit=5, search_limit=5, window_s=100.0, call_timeout_s=1_000.0, concurrency=concurrency)


async def slot_returns_in_s(redis: Redis, kind: str) -> float:
    """Return the seconds until the only slot returns."""
    ((_, at),) = await redis.zrange(f"spokes:{PORTAL}:budget:{kind}", 0, -1, withscores=True)
    seconds, micro = await redis.time()
    return float(at) / 1e6 - seconds - micro / 1e6


@pytest.mark.parametrize(("kind", "window_s"), [("calls", 100.0), ("search", 1.0)])
async def test_slot_is_held_for_a_call_and_a_window_and_then_for_a_window_of_its_kind(
    redis: Redis, kind: CallKind, window_s: float
) -> None:
    before = time.monotonic()
    async with make_budget(redis).slot(PORTAL, kind):
        held_s = await slot_returns_in_s(redis, kind)
    left_s, took_s = await slot_returns_in_s(redis, kind), time.monotonic() - before
    assert window_s + 1_000 - took_s <= held_s <= window_s + 1_000
    assert window_s - took_s <= left_s <= window_s


async def test_pause_has_no_reason_by_default(redis: Redis) -> None:
    budget = make_budget(redis)
    await budget.pause(PORTAL, "calls", 30)
    await budget.pause(PORTAL, "search", 30, "SECONDLY")
    states = await budget.state(PORTAL)
    assert (states["calls"].reason, states["search"].reason, states["associations"].reason) == ("", "SECONDLY", "")


async def test_slot_granted_in_a_lost_answer_is_released(redis: Redis) -> None:
    budget = make_budget(redis)
    script = budget._script

    async def lossy(*, keys: list[str], args: list[Any]) -> Any:
        answer = await script(keys=keys, args=args)
        if args[0] == "take":
            raise Disconnected("after Redis has done it")
        return answer

    budget._script = lossy  # type: ignore[assignment]  # the real one, behind a bad line
    with pytest.raises(CRMUnavailable):
        await budget._acquire_slot(PORTAL, "calls", "lost", "interactive")
    assert (await budget.state(PORTAL))["calls"].used == 0


async def test_failure_to_acquire_a_slot_costs_no_thread() -> None:
    budget = make_budget(Redis(port=1), concurrency=1)
    for _ in range(3):
        with pytest.raises(CRMUnavailable):
            async with asyncio.timeout(20), budget.slot(PORTAL, "calls"):
                pytest.fail("there is no Redis")


class MustWait(Exception):
    """A call would wait for a slot now."""


async def count_granted(budget: RateBudget, kind: CallKind, priority: Priority, *, wait_s: float = 20) -> int:
    """Return how many slots are granted before a call has to wait: for a slot, or `wait_s` for a thread."""

    async def wait(_: float) -> None:
        raise MustWait

    budget.sleep = wait
    granted = 0
    with suppress(TimeoutError, MustWait):
        while True:
            async with asyncio.timeout(wait_s):
                await budget._acquire_slot(PORTAL, kind, f"{priority}{granted}", priority)
            granted += 1
    return granted


async def test_default_window_and_call_timeout(redis: Redis) -> None:
    budget = RateBudget(redis, limit=5, search_limit=5)
    async with budget.slot(PORTAL, "calls"):
        held_s = await slot_returns_in_s(redis, "calls")
    left_s = await slot_returns_in_s(redis, "calls")
    assert (20 < held_s <= 32, 5 < left_s <= 10) == (True, True)


async def test_default_association_limit_is_a_hundred(redis: Redis) -> None:
    assert (await RateBudget(redis, limit=5, search_limit=5).state(PORTAL))["associations"].limit == 100


async def test_default_reserve_is_a_twentieth(redis: Redis) -> None:
    budget = RateBudget(redis, limit=20, search_limit=5)
    assert await count_granted(budget, "calls", "interactive") == 20
    await redis.zremrangebyrank(budget_keys.rate_budget_slots(PORTAL, "calls"), 0, 1)  # two return
    assert await count_granted(budget, "calls", "import") == 1


async def test_default_portal_share_is_three_quarters_of_32_threads(redis: Redis) -> None:
    budget = RateBudget(redis, limit=50, search_limit=5)
    assert await count_granted(budget, "calls", "interactive", wait_s=1) == 24


async def test_default_longest_pause_waited_out_is_half_a_minute(redis: Redis) -> None:
    budget = RateBudget(redis, limit=5, search_limit=5)
    await budget.pause(PORTAL, "calls", 29, "SECONDLY")
    assert await count_granted(budget, "calls", "interactive") == 0
    await budget.pause(PORTAL, "calls", 35, "SECONDLY")
    with pytest.raises(TransientCRMError) as raised:
        await count_granted(budget, "calls", "interactive")
    assert 30 < raised.value.retry_after_s <= 35


async def test_call_counted_afterwards_takes_a_slot_for_a_window(redis: Redis) -> None:
    budget = make_budget(redis)
    await budget.count_call(PORTAL)
    assert 60 < await slot_returns_in_s(redis, "calls") <= 100
    for _ in range(6):
        await budget.count_call(PORTAL)
    assert (await budget.state(PORTAL))["calls"].used == 5


async def test_count_call_without_redis_raises_nothing() -> None:
    await make_budget(Redis(port=1)).count_call(PORTAL)


async def test_call_ends_without_error_when_redis_is_gone(redis: Redis) -> None:
    budget = make_budget(redis)
    async with budget.slot(PORTAL, "calls"):
        budget._script = raise_disconnected  # type: ignore[assignment]  # the real one has nowhere to go


async def test_backoff_without_redis_keeps_the_calls_own_error(redis: Redis) -> None:
    budget = make_budget(redis)

    async def limited_call() -> None:
        async with budget.slot(PORTAL, "calls"):
            budget._script = raise_disconnected  # type: ignore[assignment]  # as above
            raise RateLimited(retry_after_s=3)

    with pytest.raises(RateLimited):
        await limited_call()


@pytest.mark.parametrize(("wait_s", "sleep_s"), [(29, 5.0), (2, 2.0)])
async def test_waiter_sleeps_until_the_slot_returns_but_at_most_five_seconds(
    redis: Redis, wait_s: float, sleep_s: float
) -> None:
    sleeps: list[float] = []

    async def record_sleep(seconds: float) -> None:
        sleeps.append(seconds)
        raise asyncio.CancelledError

    budget = make_budget(redis)
    before = time.monotonic()
    await budget.pause(PORTAL, "calls", wait_s, "SECONDLY")
    budget.sleep = record_sleep
    with pytest.raises(asyncio.CancelledError):
        await budget._acquire_slot(PORTAL, "calls", "one", "interactive")
    late_s = time.monotonic() - before if wait_s == sleep_s else 0
    assert sleep_s - late_s <= sleeps[0] <= sleep_s + 0.003


async def test_waiting_for_a_slot_holds_no_thread(redis: Redis) -> None:
    budget = RateBudget(redis, limit=1, search_limit=5, window_s=0.05, concurrency=1)
    async with asyncio.timeout(20):
        for _ in range(3):
            async with budget.slot(PORTAL, "calls"):
                pass


async def test_pause_of_30_5_seconds_is_not_waited_out_by_default(redis: Redis) -> None:
    budget = RateBudget(redis, limit=5, search_limit=5)

    async def answer_paused(*_: object) -> list[int | bytes]:
        return [0, 30_500_000, b"SECONDLY"]

    budget._run_script = answer_paused  # type: ignore[method-assign]  # a pause of exactly this length
    with pytest.raises(RateLimited):
        await count_granted(budget, "calls", "interactive")


async def test_round_trip_of_a_call_is_recorded_in_microseconds(redis: Redis) -> None:
    before = time.monotonic()
    async with make_budget(redis).slot(PORTAL, "calls"):
        await asyncio.sleep(0.02)
    fastest = await redis.hget(budget_keys.rate_budget_round_trips(PORTAL, "calls"), "fastest")
    assert 20_000 <= int(fastest) <= (time.monotonic() - before) * 1e6


async def test_call_that_hubspot_refuses_for_a_limit_counts_as_a_round_trip_of_no_length(redis: Redis) -> None:
    with pytest.raises(RateLimited):
        async with make_budget(redis).slot(PORTAL, "calls"):
            raise RateLimited(policy="SECONDLY")
    assert await redis.hget(budget_keys.rate_budget_round_trips(PORTAL, "calls"), "fastest") == b"0"


async def test_app_that_a_customer_installed_has_hubspots_limit_for_such_apps_for_calls_alone(redis: Redis) -> None:
    budget = make_budget(redis)
    budget.oauth_portals = {PORTAL}
    states = await budget.state(PORTAL)
    assert {kind: state.limit for kind, state in states.items()} == {"calls": 110, "search": 5, "associations": 100}


async def test_app_that_a_customer_installed_is_granted_more_calls_than_the_configured_limit(redis: Redis) -> None:
    budget = RateBudget(redis, limit=1, search_limit=5)
    budget.oauth_portals = {PORTAL}
    await budget.count_call(PORTAL)
    await budget.count_call(PORTAL)
    assert (await budget.state(PORTAL))["calls"].used == 2
    assert await count_granted(budget, "calls", "interactive", wait_s=0.1) > 1


async def test_call_without_a_batch_queue_counts_no_queue_as_in_use(redis: Redis) -> None:
    budget = make_budget(redis)
    await budget.count_call(PORTAL)
    await budget._acquire_slot(PORTAL, "calls", "one", "interactive")
    assert not await redis.exists(budget_keys.rate_budget_queues(PORTAL, "calls"))


@pytest.mark.parametrize(("portal_id", "kind"), [(7, "calls"), (PORTAL, "search")])
async def test_queues_of_another_portal_or_kind_do_not_share_the_limit(
    redis: Redis, portal_id: int, kind: CallKind
) -> None:
    budget = make_budget(redis)
    for portal, kind_of_call, queue in ((portal_id, kind, "other"), (PORTAL, "calls", "ours")):
        async with budget.slot(portal, kind_of_call, queue_id=queue):
            pass
    assert budget._uses[PORTAL, "calls", "interactive"].queues == 1


async def test_pause_between_searches_is_at_most_half_of_their_window_of_a_second(redis: Redis) -> None:
    budget = make_budget(redis)
    for _ in range(5):
        async with budget.slot(PORTAL, "search", queue_id="one"):
            pass
    assert budget.batch_gap_s(PORTAL, "search", "interactive") <= 0.5


@pytest.mark.parametrize("failure", [None, Disconnected("gone"), OSError("gone")])
async def test_backoff_is_announced_with_its_portal_error_and_seconds_even_if_that_fails(
    redis: Redis, failure: Exception | None
) -> None:
    budget, error, announced = make_budget(redis), RateLimited(retry_after_s=3), []

    async def record(*backoff: object) -> None:
        announced.append(backoff)
        if failure:
            raise failure

    budget.on_backoff = record
    with pytest.raises(RateLimited) as raised:
        async with budget.slot(PORTAL, "calls"):
            raise error
    assert raised.value is error
    assert announced == [(PORTAL, error, 3)]


async def test_import_that_waits_for_a_slot_or_fails_to_get_one_keeps_no_thread_of_imports(redis: Redis) -> None:
    budget = make_budget(redis, concurrency=2)  # one of them for imports
    script = budget._script
    budget._script = raise_disconnected  # type: ignore[assignment]  # as above
    with pytest.raises(CRMUnavailable):
        await budget._acquire_slot(PORTAL, "calls", "failed", "import")
    budget._script = script
    await budget.pause(PORTAL, "calls", 30)
    assert await count_granted(budget, "calls", "import") == 0
    await budget.resume(PORTAL, "calls")
    assert await count_granted(budget, "calls", "import", wait_s=0.1) == 1


async def test_latest_portals_are_those_that_requested_slots_last(redis: Redis) -> None:
    budget = make_budget(redis)
    for portal_id in (3, 1, 2):
        for kind in CALL_KINDS:
            async with budget.slot(portal_id, kind):
                pass
    assert budget.latest_portals(2) == {1, 2}


@pytest.mark.parametrize(
    ("unused_s", "has_waiter", "is_idle"), [(301.0, False, True), (10.0, False, False), (301.0, True, False)]
)
async def test_queue_of_a_portal_is_idle_five_minutes_after_its_last_use_if_nobody_waits(
    unused_s: float, has_waiter: bool, is_idle: bool
) -> None:
    queue = _SlotQueue(used_at=time.monotonic() - unused_s)
    if has_waiter:
        await queue.lock.acquire()
    assert queue.is_idle() is is_idle


async def test_idle_queues_of_portals_are_forgotten(redis: Redis) -> None:
    budget = make_budget(redis)
    budget._slot_queues[1, "calls", "interactive"].used_at = time.monotonic() - 301
    budget._slot_queues[2, "calls", "interactive"].used_at = time.monotonic()
    budget._slot_queues.forget_idle()
    assert list(budget._slot_queues) == [(2, "calls", "interactive")]


@pytest.mark.parametrize(
    ("left", "limit", "day"),
    [(0, 1, (0, 1)), (4, 5, (4, 5)), (-1, 5, (None, None)), (4, 0, (None, None)), (-1, -1, (None, None))],
)
def test_use_of_a_limit_is_read_with_the_day_if_that_is_known(
    left: int, limit: int, day: tuple[int | None, int | None]
) -> None:
    use = BudgetUse(1, 2, 3, 9.0, *day, 6.0, (7, 8))
    assert _read_use([1, 2, 3, left, limit, 6_000_000, 7, 8], 9.0) == use


async def test_response_to_a_search_changes_no_limit(redis: Redis) -> None:
    budget = make_budget(redis)
    async with budget.slot(PORTAL, "search") as slot:
        slot.read_headers({"x-hubspot-ratelimit-max": "190"})
    assert (await budget.state(PORTAL))["search"].limit == 5


async def raise_disconnected(*, keys: list[str], args: list[Any]) -> Any:
    """Fail as a script does when Redis is gone."""
    raise Disconnected("gone")
