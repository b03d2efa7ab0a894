"""Priorities, portals and the daily limit: interactive calls come first, and no class or portal starves."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from redis.asyncio import Redis

from spokes.core.errors import RateLimited
from spokes.core.priority import Priority
from spokes.crm.transport.rate_budget import RateBudget, backoff_for_error, seconds_until_new_day
from spokes.simulator.config import Limits, PortalConfig
from tests.support.hubspot.crm_world import PORTAL, CRMWorld, open_world


def make_budget(
    redis: Redis, *, limit: int = 10, reserve: float = 0.2, window_s: float = 60.0, concurrency: int = 32
) -> RateBudget:
    """Return a budget whose slots do not return during a test, unless the test asks for a shorter window."""
    return RateBudget(redis, limit=limit, search_limit=2, reserve=reserve, window_s=window_s, concurrency=concurrency)


async def count_granted(
    budget: RateBudget, count: int, priority: Priority, *, at_least: int, portal_id: int = PORTAL
) -> int:
    """Return how many of `count` calls get a slot without waiting for one to return; waits for `at_least` of them."""
    granted = 0

    async def call() -> None:
        nonlocal granted
        async with budget.slot(portal_id, "calls", priority):
            granted += 1

    calls = [asyncio.create_task(call()) for _ in range(count)]
    async with asyncio.timeout(20):
        while granted < at_least:  # noqa: ASYNC110 - no event to wait for
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.1)  # time for a slot too many to be granted
    for task in calls:
        task.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    return granted


async def test_imports_are_granted_evenly_over_the_window(redis: Redis) -> None:
    at_once = make_budget(redis, limit=20, reserve=0.1)
    assert await count_granted(at_once, 10, "import", at_least=2, portal_id=7) == 2  # as many as are reserved
    window_s = 8.0
    budget, began = make_budget(redis, limit=20, reserve=0.1, window_s=window_s), time.monotonic()

    async def call() -> None:
        async with budget.slot(PORTAL, "calls", "import"):
            pass

    await asyncio.gather(*(call() for _ in range(6)))
    took_s, even_s = time.monotonic() - began, 0.95 * window_s / 20
    assert 3.5 * even_s < took_s < 0.9 * window_s  # no import waits for a slot that returns


async def test_interactive_calls_may_use_the_whole_limit(redis: Redis) -> None:
    assert await count_granted(make_budget(redis), 12, "interactive", at_least=10) == 10


async def test_imports_may_use_the_whole_limit_without_a_reserve(redis: Redis) -> None:
    assert await count_granted(make_budget(redis, reserve=0), 12, "import", at_least=10) == 10


async def test_limit_of_one_serves_an_import(redis: Redis) -> None:
    assert await count_granted(make_budget(redis, limit=1), 2, "import", at_least=1) == 1


async def test_interactive_calls_do_not_starve_imports(redis: Redis) -> None:
    budget, end = make_budget(redis, window_s=0.4), time.monotonic() + 20
    served: dict[Priority, int] = {"interactive": 0, "import": 0}

    async def call_on(priority: Priority) -> None:
        while served["import"] < 4 and time.monotonic() < end:
            async with budget.slot(PORTAL, "calls", priority):
                served[priority] += 1

    await asyncio.gather(*(call_on(priority) for priority in served for _ in range(10)))

    assert served["import"] >= 4


async def test_waiting_imports_delay_no_interactive_call(redis: Redis) -> None:
    budget = make_budget(redis)
    await count_granted(budget, 8, "import", at_least=2)
    waiting = [asyncio.create_task(budget._acquire_slot(PORTAL, "calls", f"b{i}", "import")) for i in range(5)]
    await asyncio.sleep(0.02)

    async with asyncio.timeout(20), budget.slot(PORTAL, "calls"):
        assert not any(task.done() for task in waiting)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_portal_with_hanging_calls_leaves_threads_to_others(redis: Redis) -> None:
    budget = make_budget(redis, limit=100, concurrency=8)
    held = asyncio.Event()

    async def hang() -> None:
        async with budget.slot(PORTAL, "calls"):
            await held.wait()

    hanging = [asyncio.create_task(hang()) for _ in range(20)]
    await asyncio.sleep(0.1)

    assert await count_granted(budget, 3, "interactive", at_least=3, portal_id=7) == 3
    assert (await budget.state(PORTAL))["calls"].used == 6
    held.set()
    await asyncio.gather(*hanging)


async def test_portals_take_turns(redis: Redis) -> None:
    budget, served = make_budget(redis, limit=1000, concurrency=1), list[int]()

    async def call(portal_id: int) -> None:
        async with budget.slot(portal_id, "calls"):
            served.append(portal_id)
            await asyncio.sleep(0.002)

    await asyncio.gather(*(call(1) for _ in range(20)), *(call(2) for _ in range(5)))

    assert served[:10].count(2) >= 4


async def spend(budget: RateBudget, left: int, *, daily: int = 100) -> None:
    """Make one call whose response reports the calls left of the day."""
    async with budget.slot(PORTAL, "calls") as slot:
        headers = {"x-hubspot-ratelimit-daily": str(daily), "x-hubspot-ratelimit-daily-remaining": str(left)}
        slot.read_headers(headers)


async def test_day_left_is_shared_by_every_process(redis: Redis) -> None:
    await spend(make_budget(redis), 7)

    assert (await make_budget(redis).state(PORTAL))["calls"].day_left == 7


async def test_no_call_is_made_beyond_the_day(redis: Redis) -> None:
    budget = make_budget(redis)
    await spend(budget, 2)
    granted = await count_granted(budget, 2, "interactive", at_least=2)

    with pytest.raises(RateLimited) as raised:
        async with budget.slot(PORTAL, "search"):
            pytest.fail("no slot may be granted")

    assert (granted, raised.value.policy) == (2, "DAILY")
    assert raised.value.retry_after_s == pytest.approx(900, abs=5)


async def test_calls_in_flight_count_against_the_day(redis: Redis) -> None:
    budget = make_budget(redis)
    async with budget.slot(PORTAL, "calls"):
        await spend(budget, 7)

        assert (await budget.state(PORTAL))["calls"].day_left == 6


async def test_batch_association_calls_do_not_count_against_the_day(redis: Redis) -> None:
    budget = make_budget(redis)
    await spend(budget, 0)

    async with asyncio.timeout(20), budget.slot(PORTAL, "associations"):
        state = await budget.state(PORTAL)

    assert (state["calls"].day_left, state["associations"].day_left) == (0, None)


async def test_day_ends_at_the_portals_midnight(redis: Redis) -> None:
    budget = make_budget(redis)
    budget.set_time_zone(PORTAL, "Asia/Tokyo")
    await spend(budget, 0)

    with pytest.raises(RateLimited) as raised:
        async with budget.slot(PORTAL, "calls"):
            pytest.fail("no slot may be granted")

    assert raised.value.retry_after_s == pytest.approx(
        seconds_until_new_day(datetime.now(UTC), ZoneInfo("Asia/Tokyo")), abs=5
    )


@pytest.mark.parametrize("zone", ["", "No/Such", "../etc/passwd"])
def test_invalid_time_zone_changes_nothing(zone: str) -> None:
    budget = RateBudget(Redis(), limit=1, search_limit=1)
    budget.set_time_zone(PORTAL, zone)

    assert not budget.has_time_zone(PORTAL)


@pytest.mark.parametrize(
    ("now", "zone", "hours"),
    [
        (datetime(2026, 11, 23, 20, tzinfo=UTC), "UTC", 4),
        (datetime(2026, 11, 23, 20, tzinfo=UTC), "America/New_York", 9),
        (datetime(2026, 11, 23, 20, tzinfo=UTC), "Asia/Kolkata", 22.5),
        (datetime(2026, 10, 24, 22, 30, tzinfo=UTC), "Europe/Berlin", 24.5),  # the clocks go back on this day
    ],
)
def test_seconds_until_the_new_day(now: datetime, zone: str, hours: float) -> None:
    assert seconds_until_new_day(now, ZoneInfo(zone)) == hours * 3600 + 5


def test_daily_limit_backs_off_until_midnight_if_known() -> None:
    assert backoff_for_error(RateLimited(policy="DAILY"), "calls", 10.0, 7200.0) == ("portal", 7200.0, "DAILY")


@pytest.fixture
async def short_day(redis: Redis) -> AsyncIterator[CRMWorld]:
    """A portal with a small daily limit."""
    config = PortalConfig(limits=Limits(daily=100), time_zone="Asia/Tokyo")
    async with open_world(redis, config) as world:
        world.crm.budget._window_s = 0.2  # the pauses between batches are shares of it
        yield world


async def test_time_zone_is_requested_once_when_the_day_runs_short(short_day: CRMWorld) -> None:
    short_day.create_contacts(1)
    for _ in range(95):
        await _list_one(short_day)
    async with asyncio.timeout(20):
        while not short_day.crm.budget.has_time_zone(PORTAL):  # noqa: ASYNC110 - no event to wait for
            await asyncio.sleep(0.005)

    assert short_day.calls.count("GET details") == 1


async def test_spent_day_causes_no_refused_call(short_day: CRMWorld) -> None:
    short_day.create_contacts(1)
    policies = [await _list_one(short_day) for _ in range(110)]

    assert set(policies[:99]) == {None}
    assert policies[-1] == "DAILY"
    assert short_day.sim.limiter.counts.refused == 0


async def _list_one(world: CRMWorld) -> str | None:
    """Make a call that is no batch, so it leaves without a batch's pause; return the policy that refused it."""
    try:
        async for _ in world.services().contacts.list():
            break
    except RateLimited as error:
        return error.policy
    return None


@pytest.mark.slow
async def test_interactive_read_overtakes_reads_of_imports_and_takes_them_along(redis: Redis) -> None:
    config = PortalConfig(limits=Limits(ten_secondly=10))
    async with open_world(redis, config, hubspot_rate_limit=10, hubspot_reserve=0.2) as world:
        ids = world.create_contacts(20)
        imports = world.services(priority="import").contacts
        for contact_id in ids[:8]:
            await imports.get(contact_id)
        waiting = asyncio.create_task(imports.get(ids[9]))
        await asyncio.sleep(0.05)
        async with asyncio.timeout(5):  # half of the import's wait
            await world.services().contacts.get(ids[10])
            await waiting

    assert len(world.calls) == 9


async def test_queues_that_only_imports_use_do_not_lengthen_an_interactive_pause(redis: Redis) -> None:
    paused_s = [
        await _interactive_pause_s(redis, portal_id, import_queues=count) for portal_id, count in ((1, 0), (2, 7))
    ]

    assert paused_s[0] > 1.0
    assert (
        paused_s[1] < 3 * paused_s[0]
    )  # not eight times: the limit is smaller by the reserve and by what imports hold


async def _interactive_pause_s(redis: Redis, portal_id: int, *, import_queues: int) -> float:
    budget = make_budget(redis, limit=40, reserve=0.2, window_s=60.0)
    for number in range(import_queues):
        async with budget.slot(portal_id, "calls", "import", f"import-{number}"):
            pass
    for _ in range(10):
        async with budget.slot(portal_id, "calls", "interactive", "interactive"):
            pass
    return budget.batch_gap_s(portal_id, "calls", "interactive")


@pytest.mark.parametrize(("imports", "available"), [(0, 40), (3, 24), (12, 20), (20, 16)])
async def test_interactive_calls_are_paced_beside_what_imports_hold_to_a_bound(
    redis: Redis, imports: int, available: int
) -> None:
    budget = make_budget(redis, limit=40, reserve=0.2, window_s=2.0)
    for _ in range(imports):
        async with budget.slot(PORTAL, "calls", "import", "imports"):
            pass
    async with budget.slot(PORTAL, "calls", "interactive", "interactive"):
        pass
    assert budget._uses[PORTAL, "calls", "interactive"].available == available


async def test_queue_that_sent_a_batch_some_time_ago_shares_the_limit_with_nobody(redis: Redis) -> None:
    budget = make_budget(redis, limit=40, window_s=4.0)
    counted = []
    for queue, wait_s in (("rare", 0.0), ("busy", 1.0), ("busy", 0.0)):
        async with budget.slot(PORTAL, "calls", "interactive", queue):
            pass
        counted.append(budget._uses[PORTAL, "calls", "interactive"].queues)
        await asyncio.sleep(wait_s)

    assert counted == [1, 2, 1]


async def test_queues_that_keep_to_their_pause_all_count(redis: Redis) -> None:
    budget = make_budget(redis, limit=40, window_s=4.0)
    for _ in range(2):
        for number in range(4):
            async with budget.slot(PORTAL, "calls", "interactive", f"queue-{number}"):
                pass
            await asyncio.sleep(0.1)

    assert budget._uses[PORTAL, "calls", "interactive"].queues == 4


async def test_queue_counts_for_longer_while_the_rest_of_a_day_is_spread(redis: Redis) -> None:
    counted = []
    for portal_id, day_left in ((1, 60_000), (2, 600)):
        budget = make_budget(redis, limit=4_000, window_s=4.0)
        async with budget.slot(portal_id, "calls", "interactive", "rare") as slot:
            slot.read_headers(
                {"x-hubspot-ratelimit-daily": "100000", "x-hubspot-ratelimit-daily-remaining": str(day_left)}
            )
        await asyncio.sleep(0.05)
        async with budget.slot(portal_id, "calls", "interactive", "busy"):
            pass
        counted.append(budget._uses[portal_id, "calls", "interactive"].queues)

    assert counted == [1, 2]


async def test_queue_of_both_priorities_counts_once_for_each(redis: Redis) -> None:
    budget = make_budget(redis, limit=40, reserve=0.2)
    for priority in ("interactive", "import"):
        async with budget.slot(PORTAL, "calls", priority, "both"):
            pass

    assert budget._uses[PORTAL, "calls", "interactive"].queues == 1
    assert budget._uses[PORTAL, "calls", "import"].queues == 1
