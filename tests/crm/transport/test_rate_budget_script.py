"""rate_budget.lua called directly: its answers, what it stores in Redis, and for how long."""

import time

import pytest
from redis.asyncio import Redis

from spokes.core.errors import CRMUnavailable
from spokes.core.priority import Priority
from spokes.core.redis.key_names import budget_keys
from spokes.crm.transport.rate_budget import RateBudget
from tests.support.clocked_budget import ClockedBudget

PORTAL = 50112233
HASH = f"spokes:{PORTAL}:budget"
SLOTS = f"{HASH}:calls"
IMPORT_SLOTS = f"{SLOTS}:background"
WINDOW_S = 100
LEASE_S = 1_100
TWO_DAYS_S = 172_800
SECOND = 1_000_000  # the script counts microseconds


def make_budget(redis: Redis) -> RateBudget:
    return RateBudget(redis, limit=10, search_limit=5)


async def take(
    budget: RateBudget, slot: str, priority: Priority = "interactive", *, limit: int = 10, reserve: float = 0.2
) -> tuple[bool, float]:
    """Request a slot; return whether it is granted, and otherwise the wait in seconds.

    An import's share of the window is over, as if earlier imports had been granted long ago.
    """
    await budget._script.registered_client.hdel(budget_keys.rate_budget(PORTAL), "even:calls")
    window, lease = WINDOW_S * SECOND, LEASE_S * SECOND
    is_granted, wait, *_ = await budget._run_script(
        "take", PORTAL, "calls", slot, limit, window, lease, reserve, priority, ""
    )
    return bool(is_granted), int(wait) / SECOND


async def end(
    budget: RateBudget, slot: str, *, window_s: float = WINDOW_S, limit: str = "", day_left: str = ""
) -> None:
    """End a call whose response reported a limit and the calls left of the day, or did not."""
    window = round(window_s * SECOND)
    await budget._run_script("end", PORTAL, "calls", slot, window, 0, limit, day_left, "", 3600 * SECOND)


async def expires_in_s(redis: Redis, key: str) -> float:
    """Return the seconds until a key expires."""
    return float(await redis.pttl(key)) / 1000


async def now_s(redis: Redis) -> float:
    seconds, micro = await redis.time()
    return float(seconds) + float(micro) / SECOND


async def test_wait_lasts_until_the_next_slot_returns(redis: Redis) -> None:
    budget = make_budget(redis)
    await take(budget, "one", limit=1)
    await end(budget, "one", window_s=30)
    is_granted, wait_s = await take(budget, "two", limit=1)
    assert not is_granted
    assert 29 < wait_s <= 30


async def test_wait_for_a_call_in_flight_is_one_window(redis: Redis) -> None:
    budget = make_budget(redis)
    await take(budget, "one", limit=1)
    assert await take(budget, "two", limit=1) == (False, WINDOW_S)


async def test_imports_have_as_many_slots_of_their_own_as_are_reserved(redis: Redis) -> None:
    budget = make_budget(redis)
    for number in range(7):
        await take(budget, f"interactive {number}")
    assert [(await take(budget, f"import {n}", "import"))[0] for n in range(3)] == [True, True, False]


async def test_import_waits_for_a_shared_slot_or_its_own_whichever_returns_first(redis: Redis) -> None:
    budget = make_budget(redis)
    for number in range(8):
        await take(budget, f"interactive {number}")
        await end(budget, f"interactive {number}", window_s=50 + number)
    for number in range(2):
        await take(budget, f"import {number}", "import")
        await end(budget, f"import {number}", window_s=30 + number)
    _, wait_s = await take(budget, "next", "import")
    assert 29 < wait_s <= 30
    await end(budget, "import 0", window_s=90)
    await end(budget, "import 1", window_s=90)
    # Ten are in use and two are reserved: three of the shared slots must return.
    _, wait_s = await take(budget, "next", "import")
    assert 51 < wait_s <= 52


async def test_import_waits_for_a_shared_slot_without_a_reserve(redis: Redis) -> None:
    budget = make_budget(redis)
    for number in range(2):
        await take(budget, f"{number}", "import", limit=2, reserve=0)
        await end(budget, f"{number}", window_s=30 + number)
    is_granted, wait_s = await take(budget, "next", "import", limit=2, reserve=0)
    assert not is_granted
    assert 29 < wait_s <= 30


@pytest.mark.parametrize("key", [SLOTS, IMPORT_SLOTS])
async def test_slot_of_an_import_returns_a_window_after_the_call(redis: Redis, key: str) -> None:
    budget = make_budget(redis)
    await take(budget, "one", "import")
    ((_, leased),) = await redis.zrange(key, 0, -1, withscores=True)
    await end(budget, "one")
    ((_, left),) = await redis.zrange(key, 0, -1, withscores=True)
    now = await now_s(redis)
    assert leased / SECOND - now == pytest.approx(LEASE_S, abs=5)
    assert left / SECOND - now == pytest.approx(WINDOW_S, abs=5)


async def test_slot_of_an_interactive_call_is_not_one_of_an_import(redis: Redis) -> None:
    budget = make_budget(redis)
    await take(budget, "one")
    await end(budget, "one")
    assert not await redis.exists(IMPORT_SLOTS)


async def test_imports_leave_the_reserve_to_interactive_calls(redis: Redis) -> None:
    budget = make_budget(redis)
    assert [(await take(budget, f"import {n}", "import"))[0] for n in range(9)] == [True] * 8 + [False]
    assert [(await take(budget, f"interactive {n}"))[0] for n in range(3)] == [True, True, False]


async def test_slot_that_an_interactive_call_waits_for_is_not_granted_to_an_import(redis: Redis) -> None:
    budget = make_budget(redis)
    for number in range(10):
        await take(budget, f"{number}", "import", reserve=0)
    assert not (await take(budget, "interactive", reserve=0))[0]
    await end(budget, "0", window_s=0)
    is_granted, wait_s = await take(budget, "import", "import", reserve=0)
    assert not is_granted
    assert WINDOW_S - 1 < wait_s <= WINDOW_S  # when the interactive call expects a slot
    assert (await take(budget, "interactive", reserve=0))[0]


async def test_returned_slots_are_removed(redis: Redis) -> None:
    budget = make_budget(redis)
    for number in range(3):
        await take(budget, f"{number}", "import")
        await end(budget, f"{number}", window_s=0)
    await take(budget, "last", "import")
    assert (await redis.zcard(SLOTS), await redis.zcard(IMPORT_SLOTS)) == (1, 1)


async def test_slots_expire_a_second_after_the_last_lease(redis: Redis) -> None:
    before = time.monotonic()
    await take(make_budget(redis), "one", "import")
    for key in (SLOTS, IMPORT_SLOTS):
        expires_s = await expires_in_s(redis, key)
        assert LEASE_S + 1 - (time.monotonic() - before) - 0.002 <= expires_s <= LEASE_S + 1


async def test_reported_limit_expires_after_two_days(redis: Redis) -> None:
    budget = make_budget(redis)
    await take(budget, "one")
    await end(budget, "one", limit="7")
    assert await expires_in_s(redis, HASH) == pytest.approx(TWO_DAYS_S, abs=10)


async def test_day_left_expires_after_two_days(redis: Redis) -> None:
    budget = make_budget(redis)
    await take(budget, "one")
    await end(budget, "one", day_left="7")
    assert await expires_in_s(redis, HASH) == pytest.approx(TWO_DAYS_S, abs=10)


async def test_pace_of_imports_expires_after_two_days(redis: Redis) -> None:
    await take(make_budget(redis), "one", "import")
    assert await expires_in_s(redis, HASH) == pytest.approx(TWO_DAYS_S, abs=10)


async def test_pause_expires_after_two_days(redis: Redis) -> None:
    await make_budget(redis).pause(PORTAL, "calls", 30)
    assert await expires_in_s(redis, HASH) == pytest.approx(TWO_DAYS_S, abs=10)


async def test_call_without_reported_limits_leaves_only_its_slot_and_its_round_trip(redis: Redis) -> None:
    budget = make_budget(redis)
    await take(budget, "one")
    await end(budget, "one")
    assert {key async for key in redis.scan_iter()} == {SLOTS.encode(), f"{SLOTS}:round-trips".encode()}


async def test_day_that_has_ended_limits_no_call(redis: Redis) -> None:
    budget = make_budget(redis)
    await take(budget, "one")
    await end(budget, "one", day_left="0")
    assert await take(budget, "two") == (False, pytest.approx(3600, abs=5))
    await redis.hset(HASH, "day:until", 1)
    assert (await budget.state(PORTAL))["calls"].day_left is None
    assert (await take(budget, "two"))[0]


async def test_released_slot_returns_its_call_to_the_day_once(redis: Redis) -> None:
    budget = make_budget(redis)
    await take(budget, "one")
    await end(budget, "one", day_left="7")
    await take(budget, "two", "import")
    for _ in range(2):
        await budget._run_script("back", PORTAL, "calls", "two")
        assert (await budget.state(PORTAL))["calls"].day_left == 7
    assert not await redis.exists(IMPORT_SLOTS)


async def test_slot_released_while_the_day_is_unknown_leaves_it_unknown(redis: Redis) -> None:
    budget = make_budget(redis)
    await take(budget, "one")
    await budget._run_script("back", PORTAL, "calls", "one")
    assert (await budget.state(PORTAL))["calls"].day_left is None
    assert not await redis.exists(HASH)


async def test_state_without_a_pause_has_no_wait(redis: Redis) -> None:
    state = (await make_budget(redis).state(PORTAL))["calls"]
    assert (state.waiting_s, state.reason) == (0, "")


async def test_ended_pause_has_no_reason(redis: Redis) -> None:
    budget = make_budget(redis)
    await budget.pause(PORTAL, "calls", 0, "SECONDLY")
    state = (await budget.state(PORTAL))["calls"]
    assert (state.waiting_s, state.reason) == (0, "")


async def test_longer_of_two_pauses_applies_with_its_reason(redis: Redis) -> None:
    budget = make_budget(redis)
    await budget.pause(PORTAL, "portal", 30, "DAILY")
    await budget.pause(PORTAL, "calls", 60, "SECONDLY")
    states = await budget.state(PORTAL)
    assert (round(states["calls"].waiting_s), states["calls"].reason) == (60, "SECONDLY")
    assert (round(states["search"].waiting_s), states["search"].reason) == (30, "DAILY")


async def test_batch_queue_without_a_slot_for_a_window_is_removed(redis: Redis) -> None:
    budget = ClockedBudget(redis, limit=10, window_s=10.0)
    await budget.take("one", 0.0, queue="left")
    await budget.take("two", 10.1, queue="used")
    assert await redis.zrange("queues", 0, -1) == [b"used"]


async def test_batch_queues_expire_after_a_window(redis: Redis) -> None:
    before = time.monotonic()
    await ClockedBudget(redis, limit=10, window_s=10.0).take("one", 0.0, queue="one")
    assert 10 - (time.monotonic() - before) - 0.002 <= await expires_in_s(redis, "queues") <= 10


@pytest.mark.parametrize(("later_s", "queues"), [(0.4, 2), (0.5, 1)])
async def test_queue_is_in_use_for_four_and_a_half_shares_of_the_limit(
    redis: Redis, later_s: float, queues: int
) -> None:
    budget = ClockedBudget(redis, limit=100, window_s=10.0)
    await budget.take("one", 0.0, queue="rare")
    answer = await budget.take("two", later_s, queue="busy")
    assert answer[5] == queues


@pytest.mark.parametrize(("day_left", "day_left_h", "queues"), [(49_990, 12, 2), (50_010, 12, 1), (100_000, 25, 1)])
async def test_queue_that_sends_rarely_is_in_use_while_less_is_left_of_the_limit_than_of_the_day(
    redis: Redis, day_left: int, day_left_h: int, queues: int
) -> None:
    budget = ClockedBudget(redis, limit=4_000, window_s=4.0)
    await budget.take("one", 0.0, queue="rare")
    await budget.end("one", 0.1, 0.1, day_left=day_left, day_limit=100_000, day_left_s=day_left_h * 3600)
    answer = await budget.take("two", 1.0, queue="busy")
    assert answer[5] == queues


@pytest.mark.parametrize(("day_left", "day_left_s", "queues"), [(1, 3.9, 2), (4_900_000, 12 * 3600, 1)])
async def test_queue_is_in_use_for_four_and_a_half_shares_of_the_rest_of_a_day(
    redis: Redis, day_left: int, day_left_s: float, queues: int
) -> None:
    budget = ClockedBudget(redis, limit=4_000, window_s=4.0)
    await budget.take("one", 0.0, queue="rare")
    await budget.end("one", 0.1, 0.1, day_left=day_left, day_limit=10_000_000, day_left_s=day_left_s)
    answer = await budget.take("two", 3.0, queue="busy")
    assert answer[5] == queues


async def test_imports_with_a_reserve_of_one_call_are_granted_one_at_a_time(redis: Redis) -> None:
    budget = ClockedBudget(redis, limit=20, window_s=10.0, reserve=0.05)
    assert (await budget.take("one", 0.0, "import"))[0]
    is_granted, wait, *_ = await budget.take("two", 0.0, "import")
    assert not is_granted
    assert wait / SECOND == pytest.approx(0.95 * 10 / 20, abs=0.001)


async def test_unknown_operation_is_refused(redis: Redis) -> None:
    with pytest.raises(CRMUnavailable):
        await make_budget(redis)._run_script("nonsense", PORTAL, "calls")
