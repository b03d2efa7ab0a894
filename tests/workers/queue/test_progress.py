"""workers.queue.progress: deliveries that run for long are published, alerted and counted."""

import asyncio

import pytest
from redis.asyncio import Redis

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.queue.running_deliveries import RunningDelivery, publish_running
from tests.support.waiting import until
from tests.workers.harness import PORTAL, Harness, change
from workers.queue.progress import deadline_s, long_running
from workers.upkeep.anomaly_watch import watch_running


def test_only_deliveries_that_run_for_seconds_are_published() -> None:
    started = {"young": 99_000, "old": 90_000, "overdue": 1_000}
    runs = long_running(started, {"overdue": {"b", "a"}}, "me", 100_000, overdue_s=60.0)
    assert runs == [
        RunningDelivery("old", "me", 90_000, (), is_overdue=False),
        RunningDelivery("overdue", "me", 1_000, ("a", "b"), is_overdue=True),
    ]


def test_deadline_is_at_least_a_minute() -> None:
    assert (deadline_s(0.5), deadline_s(60.0)) == (60.0, 300.0)


@pytest.fixture
def handler_timeout_s() -> float:
    return 2.0


async def test_running_handler_is_named(harness: Harness) -> None:
    run = asyncio.ensure_future(harness.run((change("x", 1, "slow"),)))
    await until(lambda: bool(harness.parts.timeouts.running_handlers()))
    (names,) = harness.parts.timeouts.running_handlers().values()
    await run
    assert names == {"harness.wait"}


async def test_overdue_delivery_is_an_alert_until_it_ends(redis: Redis) -> None:
    episodes = AlertEpisodes(redis)
    await publish_running(redis, "me", [RunningDelivery(f"{PORTAL}-1-a", "me", 1, ("a.b",), is_overdue=True)])
    await watch_running(redis, episodes)
    assert await episodes.active("delivery_overdue") == ["delivery_overdue"]
    await publish_running(redis, "me", [])
    await watch_running(redis, episodes)
    assert await episodes.active("delivery_overdue") == []
