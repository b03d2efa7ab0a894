"""workers.upkeep.gaps.lost_events: accepted events without an end are found, and no others."""

import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.audit.records import Action, Outcome
from spokes.core import clock
from spokes.core.redis.keys import ALERTS_ACTIVE, DEFAULT_JOB_KEY_PREFIX, JOB_KEY_PREFIX
from spokes.core.settings import Settings
from tests.workers.upkeep.archived import archive
from workers.upkeep.gaps.lost_events import horizon_ms, watch_lost_events

ID = "1-18a-0123456789"
MOVED = "1-18b-0123456789"


async def is_alerted(settings: Settings, redis: Redis, store: AsyncEngine) -> bool:
    await watch_lost_events(settings, redis, store, AlertEpisodes(redis))
    return bool(await redis.hexists(ALERTS_ACTIVE, "events_lost"))


async def receive(redis: Redis, store: AsyncEngine, at: int, *, admitted: int = 2) -> None:
    received = {"action": Action.DELIVERY_RECEIVED, "outcome": None, "delivery_id": ID, "subscription_type": ""}
    await archive(redis, store, 1, at, detail={"received": 2, "admitted": admitted}, **received)


@pytest.fixture
def past(settings: Settings) -> int:
    return clock.now_ms() - horizon_ms(settings) - 60_000


async def test_delivery_without_any_end_is_found(
    redis: Redis, store: AsyncEngine, settings: Settings, past: int
) -> None:
    await receive(redis, store, past)
    await archive(redis, store, 1, past, outcome=Outcome.DUPLICATE, delivery_id=ID, event_key="d")
    assert await is_alerted(settings, redis, store)


@pytest.mark.parametrize("prefix", [JOB_KEY_PREFIX, DEFAULT_JOB_KEY_PREFIX])
async def test_delivery_that_is_still_queued_is_not_lost(
    redis: Redis, store: AsyncEngine, settings: Settings, past: int, prefix: str
) -> None:
    await receive(redis, store, past)
    await redis.set(prefix + ID, "job")
    assert not await is_alerted(settings, redis, store)


async def test_delivery_with_an_outcome_is_not_lost(
    redis: Redis, store: AsyncEngine, settings: Settings, past: int
) -> None:
    await receive(redis, store, past)
    await archive(redis, store, 1, past, delivery_id=ID, event_key="a")
    assert not await is_alerted(settings, redis, store)


@pytest.mark.parametrize("admitted", [0, 2])
async def test_recent_and_empty_deliveries_are_not_lost(
    redis: Redis, store: AsyncEngine, settings: Settings, past: int, admitted: int
) -> None:
    await receive(redis, store, past if admitted == 0 else past + 120_000, admitted=admitted)
    assert not await is_alerted(settings, redis, store)


@pytest.mark.parametrize(
    ("ended", "queued", "lost"), [(False, False, True), (True, False, False), (False, True, False)]
)
async def test_event_whose_later_delivery_is_gone_is_found(
    redis: Redis, store: AsyncEngine, settings: Settings, past: int, ended: bool, queued: bool, lost: bool
) -> None:
    detail = {"moved_to": MOVED, "delay_s": 2.0}
    await archive(redis, store, 1, past, outcome=Outcome.RETRIED, delivery_id=ID, event_key="a", detail=detail)
    if ended:
        await archive(redis, store, 1, past + 1, delivery_id=MOVED, event_key="a")
    if queued:
        await redis.set(JOB_KEY_PREFIX + MOVED, "job")
    assert await is_alerted(settings, redis, store) is lost
