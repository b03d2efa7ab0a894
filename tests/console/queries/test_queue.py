"""Queue status: backlog, lag, pauses."""

from redis.asyncio import Redis

from spokes.console.queries.queue import queue_status
from spokes.core import clock
from spokes.queue.pauses.portal_pauses import OPERATOR, PortalPauses
from tests.console.queries.helpers import OTHER_PORTAL, PORTAL, enqueue
from tests.support.events import event


async def test_queue_status_has_backlog_lag_and_pauses(redis: Redis) -> None:
    now = clock.now_ms()
    running = await enqueue(redis, event(1, occurredAt=now - 90_000))
    await redis.set(f"spokes:in-progress:{running}", "w")
    await enqueue(redis, event(2, occurredAt=now), due_in_s=600)
    await enqueue(redis, event(3, portalId=OTHER_PORTAL), portal=OTHER_PORTAL, due_in_s=900)
    await PortalPauses(redis).pause(PORTAL, OPERATOR)
    everything, own = await queue_status(redis, None), await queue_status(redis, frozenset({PORTAL}))
    assert (everything.due, everything.scheduled, everything.in_progress, everything.unarchived) == (
        1,
        2,
        1,
        1,
    )  # the record of the pause
    assert (own.due, own.scheduled, own.unarchived, list(own.paused)) == (1, 1, None, [PORTAL])
    assert own.event_lag_s is not None
    assert 90 <= own.event_lag_s < 150


async def test_empty_queue_has_no_lag(redis: Redis) -> None:
    status = await queue_status(redis, None)
    assert (status.backlog, status.event_lag_s, status.oldest_due_s, status.paused) == (0, None, 0.0, {})
