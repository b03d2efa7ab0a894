"""workers.upkeep.gaps.subscription_watch: the time without awaited events is a gap, each part of it reported once."""

import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core import clock
from spokes.core.redis import keys
from spokes.core.settings import Settings
from spokes.gaps.gap import Gap, GapCause, Proof, ProvenInterval
from spokes.gaps.ledger import GapLedger
from spokes.routing import load_router
from tests.support.registrations import DAY_MS, register
from workers.upkeep.gaps.subscription_watch import watch_subscriptions

STOPPED = "contact.creation"
OTHERS = load_router("handlers").sent_by_hubspot().registrations - {STOPPED}
SILENT_DAYS = 5


class World:
    """A deployment to which HubSpot sent all types of events every day, and now sends all but one."""

    def __init__(self, settings: Settings, redis: Redis, engine: AsyncEngine) -> None:
        self._settings = settings
        self._redis = redis
        self._engine = engine
        self.ledger = GapLedger.from_settings(settings, engine)
        self.stopped_at = clock.now_ms() - SILENT_DAYS * DAY_MS

    async def arrive(self, name: str, at: int) -> None:
        day = keys.arrivals_of_day(at // DAY_MS)
        await self._redis.hset(day, mapping={f"at {name}": str(at), f"hour {at // 3_600_000 % 24}": "5"})  # type: ignore[misc]  # redis-py types one class for sync and async

    async def arrive_others(self, days: int) -> None:
        for day in range(days):
            for name in OTHERS:
                await self.arrive(name, clock.now_ms() - day * DAY_MS)

    async def set_up(self) -> None:
        await register(self._redis, 30)
        await self._redis.sadd(keys.PORTALS, "7", "8")
        await self.arrive_others(20)
        for day in range(12):
            await self.arrive(STOPPED, self.stopped_at - day * DAY_MS)

    async def watch(self) -> list[Gap]:
        await watch_subscriptions(self._settings, self._redis, self._engine, AlertEpisodes(self._redis), ())
        return await self.ledger.list()


@pytest.fixture
async def world(settings: Settings, redis: Redis, store: AsyncEngine) -> World:
    world = World(settings, redis, store)
    await world.set_up()
    return world


async def test_events_that_stopped_are_a_gap_of_their_type_in_each_portal(world: World) -> None:
    gaps = await world.watch()
    assert {(gap.portal_id, gap.scope, gap.causes) for gap in gaps} == {
        (portal_id, "contact", (GapCause.SUBSCRIPTION_MISSING,)) for portal_id in (7, 8)
    }
    assert {gap.since for gap in gaps} == {world.stopped_at}
    assert [(gap.id, gap.until >= first.until) for gap, first in zip(await world.watch(), gaps, strict=True)] == [
        (gap.id, True) for gap in gaps
    ]


async def test_what_a_backfill_has_closed_is_not_opened_again(world: World) -> None:
    until = max(gap.until for gap in await world.watch())
    await world.ledger.prove(ProvenInterval(since=0, until=until, proof=Proof.BACKFILL))
    assert all(gap.since >= until for gap in await world.watch())


async def test_gap_ends_when_the_events_come_again(world: World, redis: Redis) -> None:
    await world.watch()
    assert list(await redis.hkeys(keys.STOPPED_EVENTS)) == [STOPPED.encode()]
    await world.arrive(STOPPED, clock.now_ms())
    ended_at = max(gap.until for gap in await world.watch())
    assert await redis.hkeys(keys.STOPPED_EVENTS) == []
    assert max(gap.until for gap in await world.watch()) == ended_at


async def test_events_that_never_arrived_are_a_gap_since_a_worker_has_awaited_them(
    settings: Settings, redis: Redis, store: AsyncEngine
) -> None:
    await register(redis, 10)
    await redis.sadd(keys.PORTALS, "7")
    world = World(settings, redis, store)
    await world.arrive_others(10)
    (gap,) = await world.watch()
    awaited_since = int(await redis.hget(keys.REGISTRATIONS, f"registered {STOPPED}"))  # type: ignore[misc]  # redis-py types one class for sync and async
    assert (gap.portal_id, gap.scope, gap.since) == (7, "contact", awaited_since)
    assert gap.causes == (GapCause.SUBSCRIPTION_MISSING,)


async def test_first_event_ends_the_gap_of_events_that_never_arrived(
    settings: Settings, redis: Redis, store: AsyncEngine
) -> None:
    await register(redis, 10)
    world = World(settings, redis, store)
    await world.arrive_others(10)
    await world.watch()
    assert STOPPED.encode() in await redis.hkeys(keys.STOPPED_EVENTS)
    await world.arrive(STOPPED, clock.now_ms())
    await world.watch()
    assert STOPPED.encode() not in await redis.hkeys(keys.STOPPED_EVENTS)
