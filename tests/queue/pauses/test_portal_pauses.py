"""spokes.queue.pauses.portal_pauses: when a portal is paused, and what ends the pause."""

import asyncio
import time
from contextlib import suppress
from dataclasses import replace

import orjson
import pytest
from redis.asyncio import Redis

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core.errors import CRMUnavailable, PortalMoving, RateLimited, TransientCRMError
from spokes.core.redis import keys
from spokes.core.redis.outage import RedisOutage
from spokes.crm.transport.rate_budget import RateBudget
from spokes.queue.pauses.portal_pauses import OPERATOR, PortalPause, PortalPauses
from tests.support.events import recorded
from tests.support.waiting import until

PORTAL = 50112233


async def test_pause_ends_when_the_probe_succeeds(redis: Redis) -> None:
    is_available = False

    async def probe(_portal_id: int) -> bool:
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


async def test_move_of_a_portal_pauses_it_for_the_time_that_hubspot_names(redis: Redis) -> None:
    pauses = PortalPauses(redis)
    await pauses.record_error(PORTAL, PortalMoving(retry_after_s=3_600))
    pause = (await pauses.list())[PORTAL]
    assert (pause.reason, pause.until) == ("portal_moving", pytest.approx(time.time() + 3_600, abs=5))
    assert f"portal_paused:{PORTAL}".encode() in await redis.hkeys(keys.ALERTS_ACTIVE)


@pytest.mark.parametrize(
    ("error", "reason", "seconds"),
    [
        (PortalMoving(retry_after_s=3_600), "portal_moving", 3_600),
        (PortalMoving(), "portal_moving", 300),
        (RateLimited(policy="DAILY"), "daily_limit", 900),
        (RateLimited(policy="TEN_SECONDLY_ROLLING", retry_after_s=600), "rate_limited", 600),
    ],
    ids=repr,
)
async def test_long_backoff_of_any_call_is_a_pause_even_if_its_caller_swallows_the_error(
    redis: Redis, error: TransientCRMError, reason: str, seconds: int
) -> None:
    budget, pauses = RateBudget(redis, limit=10, search_limit=5), PortalPauses(redis)
    budget.on_backoff = pauses.record_backoff
    with suppress(TransientCRMError):
        async with budget.slot(PORTAL, "calls"):
            raise error
    pause = (await pauses.list())[PORTAL]
    assert (pause.reason, pause.until) == (reason, pytest.approx(time.time() + seconds, abs=5))
    assert not pause.needs_probe


@pytest.mark.parametrize("error", [RateLimited(retry_after_s=8), CRMUnavailable(status=503, retry_after_s=30)])
async def test_short_backoff_is_no_pause(redis: Redis, error: TransientCRMError) -> None:
    budget, pauses = RateBudget(redis, limit=10, search_limit=5), PortalPauses(redis)
    budget.on_backoff = pauses.record_backoff
    with suppress(TransientCRMError):
        async with budget.slot(PORTAL, "calls"):
            raise error
    assert await pauses.list() == {}


async def test_long_backoff_of_searches_alone_does_not_pause_the_portal(redis: Redis) -> None:
    budget, pauses = RateBudget(redis, limit=10, search_limit=5), PortalPauses(redis)
    budget.on_backoff = pauses.record_backoff
    with suppress(TransientCRMError):
        async with budget.slot(PORTAL, "search"):
            raise RateLimited(policy="SECONDLY", retry_after_s=600)
    assert await pauses.list() == {}


async def test_short_rate_limit_is_no_pause(redis: Redis) -> None:
    pauses = PortalPauses(redis)
    await pauses.record_error(PORTAL, RateLimited(policy="TEN_SECONDLY_ROLLING", retry_after_s=8))
    assert await pauses.list() == {}


@pytest.mark.parametrize("reason", ["DAILY", "portal_moving"])
async def test_resumption_by_an_operator_ends_the_backoff_of_calls(redis: Redis, reason: str) -> None:
    budget, pauses = RateBudget(redis, limit=10, search_limit=5), PortalPauses(redis)
    async with budget.slot(PORTAL, "calls") as slot:
        slot.read_headers({"x-hubspot-ratelimit-daily": "1000", "x-hubspot-ratelimit-daily-remaining": "0"})
    await budget.pause(PORTAL, "portal", 3_600, reason)
    await pauses.pause(PORTAL, reason, seconds=3_600)
    assert await pauses.operator_resume(PORTAL, actor="ann", reason="it is back")
    async with asyncio.timeout(20), budget.slot(PORTAL, "calls"):
        assert (await budget.state(PORTAL))["calls"].waiting_s == 0


async def test_watch_waits_longer_after_each_failure_of_redis() -> None:
    waits: list[str] = []

    class Outage(RedisOutage):
        async def wait(self, error: BaseException, task: str) -> None:
            waits.append(f"{task} {type(error).__name__}")
            await super().wait(error, task)

    unreachable = Redis.from_url("redis://127.0.0.1:1")
    watching = asyncio.create_task(PortalPauses(unreachable).watch(Outage(), "pauses"))
    await until(lambda: len(waits) > 1)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert set(waits) == {"pauses ConnectionError"}


async def test_outage_of_hubspot_shorter_than_the_hold_down_is_not_reported(redis: Redis) -> None:
    pauses = PortalPauses(redis)
    await pauses.pause(PORTAL, CRMUnavailable.reason)
    held = await redis.hkeys(keys.ALERTS_HELD)
    await pauses.resume(PORTAL)
    await AlertEpisodes(redis).report_held()
    assert held == [f"portal_paused:{PORTAL}".encode()]
    assert (await redis.hkeys(keys.ALERTS_ACTIVE), await redis.llen(keys.ALERT_OUTBOX)) == ([], 0)


@pytest.mark.parametrize("reason", ["operator", "not_authorized"])
async def test_pause_that_needs_an_operator_is_reported_at_once(redis: Redis, reason: str) -> None:
    await PortalPauses(redis).pause(PORTAL, reason)
    assert await redis.hkeys(keys.ALERTS_ACTIVE) == [f"portal_paused:{PORTAL}".encode()]
