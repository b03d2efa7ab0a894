"""doctor: paused portals, kinds of calls and handlers, and what waits for their end."""

from redis.asyncio import Redis

from spokes.console.doctor.findings import FindingLevel
from spokes.console.doctor.pauses_check import check_pauses
from spokes.core.redis import keys
from spokes.core.settings import Settings
from spokes.queue.held_deliveries import ALL_CALLS, Calls
from spokes.queue.pauses.handler_pauses import HandlerPauses
from spokes.queue.pauses.portal_pauses import OPERATOR, PortalPauses

WRITES = Calls(8, "contacts.write")


async def test_each_pause_is_a_warning_with_the_number_of_its_deliveries(redis: Redis, settings: Settings) -> None:
    pauses = PortalPauses(redis)
    await pauses.pause(7, OPERATOR)
    await pauses.calls.pause(WRITES, "crm_unavailable", 60.0, failed_probes=0)
    for calls in (Calls(7, ALL_CALLS), WRITES):
        await redis.zadd(keys.held_deliveries(*calls), {f"{calls.portal_id}-1-a": 1})
        await redis.sadd(keys.HELD_SETS, calls.field)
    portal, calls_paused = await check_pauses(settings.model_copy(update={"max_held": 1}), redis)
    assert {portal.level, calls_paused.level} == {FindingLevel.WARNING}
    assert "Portal 7 is paused (operator)" in portal.sentence
    assert "wait for the end of the pause: 1. MAX_HELD is 1, so the portal's requests are refused" in portal.sentence
    assert "contacts.write of portal 8 (crm_unavailable)" in calls_paused.sentence


async def test_paused_handler_is_named_with_what_resumes_it(redis: Redis, settings: Settings) -> None:
    await HandlerPauses(redis).pause("deals.sync", 7, actor="ann", reason="a fix")
    (finding,) = await check_pauses(settings, redis)
    assert "`spokes resume 7 --handler deals.sync`" in finding.sentence


async def test_host_that_fails_is_named_instead_of_hubspot(redis: Redis, settings: Settings) -> None:
    host = Calls(7, "https://erp.example.com")
    await PortalPauses(redis).calls.pause(host, "http_unavailable", 60.0, failed_probes=0)
    (finding,) = await check_pauses(settings, redis)
    assert finding.sentence.startswith("The host https://erp.example.com fails calls of portal 7 (http_unavailable)")
    assert "when https://erp.example.com answers one of them" in finding.sentence
    assert "HubSpot" not in finding.sentence


async def test_pause_that_ends_by_the_clock_names_no_probe(redis: Redis, settings: Settings) -> None:
    await PortalPauses(redis).calls.pause(WRITES, "rate_limited", 60.0)
    (finding,) = await check_pauses(settings, redis)
    assert "The pause ends by itself at its time." in finding.sentence


async def test_deployment_without_pauses_has_no_finding(redis: Redis, settings: Settings) -> None:
    assert await check_pauses(settings, redis) == []
