"""Metric history and throughput: stored snapshots, and the rates between them."""

import asyncio

from redis.asyncio import Redis

from spokes.console.queries.throughput import counts_between, throughput
from spokes.core.redis.keys import METRIC_GAUGES, METRIC_HISTORY, METRIC_TOTALS
from spokes.core.telemetry import metric_history as minutes
from spokes.core.telemetry.metric_history import Snapshot
from spokes.core.telemetry.metric_totals import MetricTotals, Samples, local_samples, sample_key
from spokes.core.telemetry.metrics import BUDGET_WAIT_SECONDS, CRM_CALLS, EVENTS, OUTCOMES
from spokes.crm.transport.rate_budget import RateBudget
from workers.upkeep.gauges import update_gauges


def sums(admitted: float = 0, processed: float = 0, dead: float = 0, limited: float = 0, waited: float = 0) -> Samples:
    return {
        sample_key(EVENTS, result="admitted"): admitted,
        sample_key(OUTCOMES, handler="contacts.on_creation", outcome="processed"): processed,
        sample_key(OUTCOMES, handler="contacts.on_creation", outcome="dead"): dead,
        sample_key(CRM_CALLS, method="GET", outcome="rate_limited"): limited,
        sample_key(BUDGET_WAIT_SECONDS, "_sum", kind="calls"): waited,
    }


def test_minute_contains_the_increase_of_each_sum() -> None:
    (minute,) = counts_between([Snapshot(0, sums(100, 90, 1)), Snapshot(60_000, sums(160, 120, 3, 4, 5.5))])
    assert (minute.received, minute.ended, minute.rate_limited, minute.waited_s) == (60, 32, 4, 5.5)
    assert minute.failures == {"contacts.on_creation": 2}
    assert minute.runs == {"contacts.on_creation": 32}


def test_unfinished_minute_is_counted_and_not_scaled() -> None:
    minutes = counts_between([Snapshot(0, sums(0)), Snapshot(60_000, sums(100)), Snapshot(65_000, sums(110))])
    assert [minute.received for minute in minutes] == [100, 10]


def test_rate_of_a_longer_interval_is_per_minute() -> None:
    (minute,) = counts_between([Snapshot(0, sums(0)), Snapshot(120_000, sums(60))])
    assert (minute.received, minute.per_minute(minute.received)) == (60, 30)


def test_reset_sum_gives_no_negative_rate() -> None:
    (minute,) = counts_between([Snapshot(0, sums(1_000)), Snapshot(60_000, sums(7))])
    assert minute.received == 7


def test_snapshots_too_close_to_each_other_lose_no_event() -> None:
    snapshots = [
        Snapshot(0, sums(0)),
        Snapshot(1_000, sums(60)),
        Snapshot(60_000, sums(70)),
        Snapshot(60_500, sums(71)),
    ]
    assert [minute.received for minute in counts_between(snapshots)] == [70, 1]


async def test_history_keeps_three_hours_of_snapshots(redis: Redis) -> None:
    for at in range(minutes.MAX_SNAPSHOTS + 5):
        await minutes.append_snapshot(redis, Snapshot(at, sums(at)))
    snapshots = await minutes.load_snapshots(redis)
    assert (len(snapshots), snapshots[0].at, snapshots[-1].at) == (minutes.MAX_SNAPSHOTS, 5, minutes.MAX_SNAPSHOTS + 4)
    assert await redis.memory_usage(METRIC_HISTORY, samples=0) < 100_000
    assert await redis.ttl(METRIC_HISTORY) > 3 * 3600


async def test_unreadable_snapshot_is_skipped(redis: Redis) -> None:
    await redis.lpush(METRIC_HISTORY, b"nonsense", b"")
    await minutes.append_snapshot(redis, Snapshot(1, sums(1)))
    assert [snapshot.at for snapshot in await minutes.load_snapshots(redis)] == [1]


async def test_throughput_includes_the_time_since_the_last_snapshot(redis: Redis) -> None:
    await minutes.append_snapshot(redis, Snapshot(0, {}))
    await redis.hset(
        METRIC_TOTALS, mapping={sample_key(EVENTS, result="admitted"): 5, '["spokes_requests_total",{}]': 9}
    )
    rates = await throughput(redis, None)
    assert rates is not None
    assert [set(minute.results) for minute in rates] == [{"admitted"}]


async def test_throughput_is_none_for_actors_of_some_portals(redis: Redis) -> None:
    assert await throughput(redis, frozenset({7})) is None


async def test_several_workers_store_one_first_snapshot(redis: Redis) -> None:
    await redis.hset(METRIC_TOTALS, sample_key(EVENTS, result="admitted"), 5)
    budget = RateBudget(redis, limit=100, search_limit=5)
    await asyncio.gather(*(update_gauges(redis, budget) for _ in range(3)))
    assert await redis.exists(METRIC_GAUGES)
    (snapshot,) = await minutes.load_snapshots(redis)
    assert snapshot.sums == {sample_key(EVENTS, result="admitted"): 5}


async def test_first_counts_of_a_process_are_in_the_history(redis: Redis) -> None:
    """No worker runs yet, and nothing was counted before."""
    totals = MetricTotals(redis, "web")
    before = local_samples().get(sample_key(EVENTS, result="quarantined"), 0)  # by other tests of this process
    await minutes.flush_with_history(redis, totals)
    EVENTS.labels("quarantined").inc(3)
    await minutes.flush_with_history(redis, totals)
    rates = await throughput(redis, None)
    assert rates is not None
    assert sum(minute.results.get("quarantined", 0) for minute in rates) == before + 3


def test_event_of_an_erased_object_has_ended() -> None:
    discarded = {sample_key(OUTCOMES, handler="contacts.on_creation", outcome="discarded"): 2.0}
    (minute,) = counts_between([Snapshot(0, {}), Snapshot(60_000, discarded)])
    assert (minute.ended, minute.outcomes) == (2, {"discarded": 2})
