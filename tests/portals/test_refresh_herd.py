"""Ten thousand portals: their refreshes are spread, limited by rate, and wait in turn."""

import asyncio
from bisect import bisect_left
from collections import Counter

import pytest
from redis.asyncio import Redis

from spokes.core.errors import CRMUnavailable
from spokes.portals.refresh_leases import RefreshLeases
from spokes.portals.refresh_times import TokenAge, token_age
from spokes.testing.virtual_clock import VirtualClock
from tests.portals.conftest import AppWorld

PORTALS = range(1, 10_001)
LIFETIME_S = 1800


def first_refresh_s(portal_id: int) -> int:
    """Return the second of a token's life from which on it is refreshed."""

    def is_ageing(at_s: int) -> bool:
        age = token_age(portal_id, 1, expires_at=LIFETIME_S * 1000, lifetime_s=LIFETIME_S, now_ms=at_s * 1000)
        return age is not TokenAge.FRESH

    return bisect_left(range(LIFETIME_S), 1, key=is_ageing)


@pytest.mark.timeout(60)
async def test_tokens_issued_together_are_refreshed_before_they_expire_and_within_the_rate(redis: Redis) -> None:
    limit, clock = 40, VirtualClock()
    leases = RefreshLeases(redis, refreshes_per_s=limit)
    due: dict[int, list[int]] = {}
    for portal_id in PORTALS:
        due.setdefault(first_refresh_s(portal_id), []).append(portal_id)
    waiting: list[int] = []
    refreshed: Counter[int] = Counter()
    for second in range(min(due), LIFETIME_S):
        waiting += due.get(second, [])
        while waiting and (await leases.begin(waiting[0])).is_granted:
            refreshed[second] += 1
            del waiting[0]
        await clock.advance(redis, 1000)
    assert refreshed.total() == len(PORTALS)
    assert max(refreshed) < LIFETIME_S * 0.9
    assert max(refreshed.values()) <= limit


async def test_portals_that_wait_for_the_rate_do_not_ask_redis_together(world: AppWorld) -> None:
    portals = range(1, 61)
    for portal_id in portals:
        await world.install(portal_id, expires_in_s=-60)
    service = await world.service(refreshes_per_s=3)
    await world.redis.config_resetstat()
    calls = [asyncio.create_task(service.client(portal_id)) for portal_id in portals]
    await asyncio.sleep(2)
    stats = await world.redis.info("commandstats")
    for call in calls:
        call.cancel()
    assert stats["cmdstat_evalsha"]["calls"] < 40


async def test_portal_that_waits_too_long_for_the_rate_is_unavailable_for_now(
    world: AppWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spokes.portals.token_service._WAIT_S", 0.5)
    for portal_id in (1, 2):
        await world.install(portal_id, expires_in_s=-60)
    service = await world.service(refreshes_per_s=1)
    await service.client(1)
    with pytest.raises(CRMUnavailable):
        await service.client(2)
    assert (await world.portal(2)).state == "installed"


async def test_refresh_ahead_that_must_wait_is_not_tried_at_each_call(world: AppWorld) -> None:
    for portal_id in (1, 2):
        await world.install(portal_id, expires_in_s=120)
    service = await world.service(refreshes_per_s=1)
    await service.client(1)
    await world.redis.config_resetstat()
    for _ in range(30):
        await service.client(2)
        await asyncio.sleep(0.005)
    stats = await world.redis.info("commandstats")
    assert stats.get("cmdstat_evalsha", {"calls": 0})["calls"] < 15
