"""Each reason for which a portal is paused: one pause, one alert, no spent attempt, ended by one act of an operator."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from spokes.queue.pauses.portal_pauses import PortalPauses
from spokes.simulator.api.faults import Fault
from spokes.simulator.app import Simulator
from spokes.simulator.portal import TokenState
from tests.support.processes.contact_changes import alerts, outcomes, queue_changes
from tests.support.waiting import until

PORTAL = 50112233
EVENTS = 12
End = Callable[[], None]


def refuse(hubspot: Simulator, fault: Fault) -> End:
    number = hubspot.faults.add(fault)
    return lambda: hubspot.faults.remove(number)


def use_up_the_day(hubspot: Simulator) -> End:
    limiter, limits = hubspot.portal.limiter, hubspot.portal.limiter.limits
    limiter.limits = replace(limits, daily=0)

    def renew() -> None:
        limiter.limits = limits

    return renew


def revoke_the_token(hubspot: Simulator) -> End:
    hubspot.portal.token_state = TokenState.REVOKED

    def accept() -> None:
        hubspot.portal.token_state = TokenState.VALID

    return accept


BEGINS: dict[str, Callable[[Simulator], End]] = {
    "portal_moving": lambda hubspot: refuse(hubspot, Fault(path="/crm/*", status=477, retry_after="3600")),
    "rate_limited": lambda hubspot: refuse(hubspot, Fault(path="/crm/*", status=429, retry_after="3600")),
    "daily_limit": use_up_the_day,
    "not_authorized": revoke_the_token,
    "operator": lambda _: lambda: None,
}


@pytest.mark.slow
@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("reason", BEGINS)
async def test_portal_is_paused_once_and_its_events_run_after_one_act(
    redis: Redis, hubspot: Simulator, reason: str
) -> None:
    pauses = PortalPauses(redis)
    await queue_changes(redis, hubspot, "read", value="")

    async def the_worker_works() -> bool:
        return len(await outcomes(redis, "processed")) == 1

    await until(the_worker_works)
    end = BEGINS[reason](hubspot)
    if reason == "operator":
        await pauses.operator_pause(PORTAL, actor="ann", reason="a test")
    await queue_changes(redis, hubspot, *["read"] * EVENTS, value="")

    async def portal_is_paused() -> bool:
        return [pause.reason for pause in (await pauses.list()).values()] == [reason]

    async def an_event_waits() -> bool:
        return len(await outcomes(redis, "parked")) >= 1 or reason == "operator"

    await until(portal_is_paused)
    await until(an_event_waits)
    assert await outcomes(redis, "processed") == [1]
    end()
    assert await pauses.operator_resume(PORTAL, actor="ann", reason="it is over")

    async def all_are_processed() -> bool:
        return len(await outcomes(redis, "processed")) == 1 + EVENTS

    await until(all_are_processed)
    assert await outcomes(redis, "processed") == [1] * (1 + EVENTS)
    assert await outcomes(redis, "dead") == []
    # A call may be refused just before the token is accepted again; its event is retried without spending an attempt.
    assert set(await outcomes(redis, "retried")) <= ({0} if reason == "not_authorized" else set())
    assert await alerts(redis, "alert.began") == [f"portal_paused:{PORTAL}"]

    async def the_alert_has_ended() -> bool:  # by another task of the worker than that of the events
        return await alerts(redis, "alert.ended") == [f"portal_paused:{PORTAL}"]

    await until(the_alert_has_ended)
