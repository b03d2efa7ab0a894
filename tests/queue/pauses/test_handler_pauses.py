"""spokes.queue.pauses.handler_pauses, on a real Valkey: an operator pauses one handler."""

import pytest
from redis.asyncio import Redis

from spokes.audit.records import Action
from spokes.core.errors import UnknownPortal
from spokes.core.redis import keys
from spokes.queue.pauses.call_pauses import CallPauses
from spokes.queue.pauses.handler_pauses import HandlerPauses
from spokes.queue.pauses.portal_pauses import PortalPauses
from tests.support.events import recorded

GREET = "contacts.greet"


@pytest.fixture
async def pauses(redis: Redis) -> HandlerPauses:
    await redis.sadd(keys.PORTALS, 1, 2)  # type: ignore[misc]  # redis-py types one class for sync and async
    return HandlerPauses(redis)


async def test_handler_is_paused_in_all_known_portals_or_in_one(pauses: HandlerPauses, redis: Redis) -> None:
    assert await pauses.pause(GREET, None, actor="ada", reason="wrong") == [1, 2]
    assert await pauses.pause("deals.sync", 2, actor="ada", reason="wrong") == [2]
    stored = [(pause.portal_id, pause.handler, pause.reason) for pause in await CallPauses(redis).list()]
    assert stored == [(1, GREET, "operator"), (2, GREET, "operator"), (2, "deals.sync", "operator")]


async def test_unknown_portal_is_refused(pauses: HandlerPauses) -> None:
    with pytest.raises(UnknownPortal, match="Known portals: 1, 2"):
        await pauses.pause(GREET, 3, actor="ada", reason="wrong")


async def test_pause_and_resumption_are_audited_with_the_handler(pauses: HandlerPauses, redis: Redis) -> None:
    await pauses.pause(GREET, 1, actor="ada", reason="wrong", address="192.0.2.1")
    assert await pauses.resume(GREET, None, actor="ada", reason="right") == [1]
    assert await pauses.resume(GREET, None, actor="ada", reason="right") == []
    records = [(record.action, record.handler, record.actor, record.reason) for record in await recorded(redis)]
    assert records == [(Action.PORTAL_PAUSED, GREET, "ada", "wrong"), (Action.PORTAL_RESUMED, GREET, "ada", "right")]


async def test_resumption_of_the_portal_leaves_its_handlers_paused(pauses: HandlerPauses, redis: Redis) -> None:
    await pauses.pause(GREET, 1, actor="ada", reason="wrong")
    portals = PortalPauses(redis)
    await portals.operator_pause(1, actor="ada", reason="all")
    assert await portals.operator_resume(1, actor="ada", reason="all")
    assert [pause.handler for pause in await portals.calls.list()] == [GREET]


async def test_pause_of_a_handler_ends_by_no_clock(pauses: HandlerPauses, redis: Redis) -> None:
    await pauses.pause(GREET, 1, actor="ada", reason="wrong")
    calls = CallPauses(redis)
    await calls.refresh()
    assert [pause.handler for pause in await calls.list()] == [GREET]
