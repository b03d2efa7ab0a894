"""spokes.intake.backpressure: which requests are refused while the queue fills."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from spokes.core import clock
from spokes.core.errors import QueueUnavailable
from spokes.core.events import Event
from spokes.core.redis import keys
from spokes.core.redis.keys import JOB_QUEUE
from spokes.core.settings import Settings
from spokes.intake.backpressure import Backpressure, PressureLevel, pressure_level
from spokes.queue.held_deliveries import ALL_CALLS
from tests.support.events import event


@pytest.mark.parametrize(
    ("fullness", "level"),
    [
        (0.0, PressureLevel.ALL),
        (0.79, PressureLevel.ALL),
        (0.81, PressureLevel.NO_IMPORTS),
        (1.0, PressureLevel.NOTHING),
    ],
)
def test_imports_are_refused_first(fullness: float, level: PressureLevel) -> None:
    assert pressure_level(fullness, PressureLevel.ALL) is level


def test_level_recovers_a_little_below_the_limit() -> None:
    assert [pressure_level(share, PressureLevel.NOTHING) for share in (0.99, 0.96, 0.94, 0.5)] == [
        PressureLevel.NOTHING, PressureLevel.NOTHING, PressureLevel.NO_IMPORTS, PressureLevel.ALL,
    ]  # fmt: skip


@given(st.floats(0, 3), st.sampled_from(PressureLevel))
def test_fuller_queue_never_accepts_more(fullness: float, previous: PressureLevel) -> None:
    assert pressure_level(fullness + 0.1, previous) >= pressure_level(fullness, previous)


@pytest.fixture
async def backpressure(redis: Redis, settings: Settings) -> Backpressure:
    """Backpressure of a deployment whose queue is full with 10 jobs."""
    return Backpressure(redis, settings.model_copy(update={"max_backlog": 10, "max_held": 10}))


async def test_full_queue_refuses_and_asks_for_a_retry(redis: Redis, backpressure: Backpressure) -> None:
    await redis.zadd(JOB_QUEUE, {str(n): n for n in range(10)})
    await backpressure.measure()
    with pytest.raises(QueueUnavailable) as refused:
        backpressure.check_request()
    assert refused.value.retry_after_s > 0


async def test_deliveries_that_are_due_much_later_do_not_fill_the_queue(
    redis: Redis, backpressure: Backpressure
) -> None:
    await redis.zadd(JOB_QUEUE, {str(n): clock.now_ms() + 300_000 for n in range(10)})
    await backpressure.measure()
    backpressure.check_request()


async def test_drained_queue_accepts_again(redis: Redis, backpressure: Backpressure) -> None:
    await redis.zadd(JOB_QUEUE, {str(n): n for n in range(10)})
    await backpressure.measure()
    await redis.delete(JOB_QUEUE)
    await backpressure.measure()
    backpressure.check_request()


async def test_filling_queue_refuses_imports_only(redis: Redis, backpressure: Backpressure) -> None:
    await redis.zadd(JOB_QUEUE, {str(n): n for n in range(9)})
    await backpressure.measure()
    backpressure.check_request()
    backpressure.check_events([Event(event())])
    with pytest.raises(QueueUnavailable):
        backpressure.check_events([Event(event()), Event(event(changeSource="IMPORT"))])


async def hold(redis: Redis, portal_id: int, kind: str, count: int) -> None:
    """Store deliveries that wait for the end of a pause."""
    names = {f"{portal_id}-{number}-a": number for number in range(count)}
    await redis.zadd(keys.held_deliveries(portal_id, kind), names)
    await redis.zadd(JOB_QUEUE, dict.fromkeys(names, clock.now_ms() + 600_000))
    await redis.sadd(keys.HELD_SETS, f"{portal_id}:{kind}")


async def test_portal_with_too_many_held_deliveries_is_refused_and_others_are_not(
    redis: Redis, backpressure: Backpressure
) -> None:
    await hold(redis, 7, ALL_CALLS, 6)
    await hold(redis, 7, "contacts.write", 4)
    await hold(redis, 8, ALL_CALLS, 9)
    await backpressure.measure()
    assert (backpressure.level, backpressure.accepts_all, "MAX_HELD" in backpressure.sentence) == (
        PressureLevel.ALL, False, True,
    )  # fmt: skip
    backpressure.check_request()
    backpressure.check_events([Event(event(portalId=8))])
    with pytest.raises(QueueUnavailable, match="queue_full_for_portal"):
        backpressure.check_events([Event(event(portalId=8)), Event(event(portalId=7))])


async def test_portal_whose_deliveries_were_released_is_accepted_again(
    redis: Redis, backpressure: Backpressure
) -> None:
    await hold(redis, 7, ALL_CALLS, 10)
    await backpressure.measure()
    await redis.delete(keys.held_deliveries(7, ALL_CALLS))
    await backpressure.measure()
    backpressure.check_events([Event(event(portalId=7))])
    assert backpressure.accepts_all
