"""spokes.queue.portal_pauses: when a portal is paused, and what ends the pause."""

import time
from dataclasses import replace

import orjson
from redis.asyncio import Redis

from spokes.core.redis import keys
from spokes.queue.portal_pauses import OPERATOR, CircuitBreaker, PortalPause, PortalPauses
from tests.support.events import recorded

PORTAL = 50112233


def test_breaker_opens_after_separate_failures_and_closes_with_a_success() -> None:
    breaker = CircuitBreaker()
    assert [breaker.record_failure(1, now) for now in (0.0, 0.5, 2.0, 4.0, 6.0, 8.0)] == [False] * 5 + [True]
    breaker.record_success(1)
    assert not breaker.record_failure(1, 10.0)


async def test_pause_ends_when_the_probe_succeeds(redis: Redis) -> None:
    is_available = False

    async def probe() -> bool:
        return is_available

    pauses = PortalPauses(redis, probe)
    await pauses.pause(PORTAL, "not_authorized")
    assert not await pauses._has_ended(PORTAL, (await pauses.list())[PORTAL])
    is_available = True
    await redis.delete(keys.alert_once(PORTAL, "probe"))
    assert await pauses._has_ended(PORTAL, (await pauses.list())[PORTAL])


async def test_operator_pause_lasts_until_an_operator_resumes(redis: Redis) -> None:
    pauses = PortalPauses(redis)
    await pauses.pause(PORTAL, OPERATOR)
    assert not await pauses._has_ended(PORTAL, (await pauses.list())[PORTAL])
    assert await pauses.resume(PORTAL)


async def test_pause_for_a_spent_daily_limit_ends_by_the_clock(redis: Redis) -> None:
    pauses = PortalPauses(redis)
    await pauses.pause(PORTAL, "daily_limit", seconds=60.0)
    pause = (await pauses.list())[PORTAL]
    assert not await pauses._has_ended(PORTAL, pause)
    assert await pauses._has_ended(PORTAL, replace(pause, until=time.time() - 1))


async def test_operator_pause_replaces_one_that_would_end_by_itself_and_is_audited(redis: Redis) -> None:
    pauses = PortalPauses(redis)
    await pauses.pause(PORTAL, "crm_unavailable")
    await pauses.operator_pause(PORTAL, actor="ann", reason="import by hand")
    assert not (await pauses.list())[PORTAL].needs_probe
    assert await pauses.operator_resume(PORTAL, actor="bob", reason="done")
    records = await recorded(redis)
    actions = [
        (record.action.value, record.actor, record.reason)
        for record in records
        if record.action.value.startswith("portal.")
    ]
    assert actions == [("portal.paused", "ann", "import by hand"), ("portal.resumed", "bob", "done")]


async def test_stored_pause_keeps_its_key_why_and_a_later_key_is_read(redis: Redis) -> None:
    """Another version reads the stored JSON during a deploy."""
    await PortalPauses(redis).pause(PORTAL, "not_authorized")
    stored = orjson.loads(await redis.hget(keys.PAUSED_PORTALS, str(PORTAL)))
    assert stored["why"] == "not_authorized"
    later = {"reason": "daily_limit", "since": 1.0, "until": 2.0}
    await redis.hset(keys.PAUSED_PORTALS, str(PORTAL), orjson.dumps(later).decode())
    assert await PortalPauses(redis).list() == {PORTAL: PortalPause("daily_limit", 1.0, 2.0)}
