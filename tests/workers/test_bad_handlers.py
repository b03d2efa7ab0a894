"""Handlers that fail in every way: each event is resolved alone, the worker goes on. In a whole worker."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from spokes.core import clock
from spokes.core.delivery import Delivery, Entry, job_payload, new_delivery_id
from spokes.core.events import Event
from spokes.core.redis.keys import ALERT_OUTBOX, JOB_KEY_PREFIX, JOB_QUEUE
from spokes.core.settings import Settings
from spokes.simulator.app import Simulator
from tests.support.events import recorded
from tests.workers.harness import KEYS, PORTAL, change
from workers.worker import build_worker

RunAll = Callable[..., Awaitable[list[tuple[str, str]]]]


@pytest.fixture
def run_all(environ: dict[str, str], redis: Redis, hubspot: Simulator) -> RunAll:
    """Return a function that runs events in a worker until the queue is empty, and returns their outcomes."""

    async def run(*raws: dict[str, object], **variables: str) -> list[tuple[str, str]]:
        more = {
            "RETRY_SCHEDULE_S": "0.05,0.05", "DATABASE_URL": "postgres://127.0.0.1:1/none",
            "HANDLERS": "tests.support.bad_handlers", "HANDLER_TIMEOUT_S": "0.6", "HUBSPOT_API_URL": hubspot.url,
        }  # fmt: skip
        entries = tuple(Entry(KEYS(Event(raw)), 0, raw) for raw in raws)
        delivery = Delivery(new_delivery_id(PORTAL), PORTAL, clock.now_ms(), entries)
        await redis.set(JOB_KEY_PREFIX + delivery.id, job_payload(delivery, delivery.received_at))
        await redis.zadd(JOB_QUEUE, {delivery.id: delivery.received_at})
        worker = build_worker(Settings.from_env({**environ, **more, **variables}), burst=True)
        worker._handle_signals = False
        try:
            async with asyncio.timeout(20):
                await worker.async_run()
        finally:
            await worker.close()
        return [(record.outcome.value, record.reason) for record in await recorded(redis) if record.outcome]

    return run


def failing(value: str) -> tuple[dict[str, object], ...]:
    return change(value, 1, "raises"), *(change("x", 1, "ok", number) for number in range(2, 6))


OTHERS = [("processed", "")] * 4


@pytest.mark.parametrize(
    "name", ["CancelledError", "GeneratorExit", "KeyboardInterrupt", "SystemExit", "OwnBaseException"]
)
async def test_whatever_leaves_a_handler_resolves_its_event_alone(run_all: RunAll, name: str) -> None:
    assert sorted(await run_all(*failing(name))) == [("dead", f"handler_error:{name}"), *OTHERS]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cancelled_task", ("dead", "handler_error:CancelledError")),
        ("cancels_itself_later", ("dead", "handler_error:CancelledError")),
        ("cancels_itself", ("processed", "")),
    ],
)
async def test_cancellation_that_is_not_ours_does_not_end_the_run(
    run_all: RunAll, name: str, expected: tuple[str, str]
) -> None:
    assert sorted(await run_all(change("x", 1, name), *failing("")[1:])) == sorted([expected, *OTHERS])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("BaseExceptionGroup", [("dead", "handler_error:OwnBaseException")]),
        ("bug and transient", [("dead", "handler_error:ValueError")]),
        ("transient", [("retried", "crm_unavailable")] * 2 + [("dead", "crm_unavailable")]),
        ("waits", [("retried", "retry_later")] * 2 + [("dead", "retry_later")]),
    ],
)
async def test_exception_group_is_resolved_by_its_leaves(
    run_all: RunAll, value: str, expected: list[tuple[str, str]]
) -> None:
    assert await run_all(change(value, 1, "raises")) == expected


async def test_refused_token_within_a_group_pauses_the_portal(redis: Redis, run_all: RunAll) -> None:
    with pytest.raises(TimeoutError):  # the event waits in the queue
        await asyncio.wait_for(run_all(change("not authorized", 1, "raises")), 3)
    outcomes = {(record.outcome, record.reason) for record in await recorded(redis) if record.outcome}
    assert outcomes == {("parked", "not_authorized")}
    assert b"portal_paused" in b"".join(await redis.lrange(ALERT_OUTBOX, 0, -1))  # type: ignore[misc]  # redis-py types one class for sync and async


async def test_handler_that_swallows_its_cancellation_becomes_a_dead_letter_with_an_alert(
    redis: Redis, run_all: RunAll
) -> None:
    assert await run_all(change("x", 1, "swallows_cancellation")) == [("dead", "handler_stuck")]
    assert b"bad_handlers.swallows_cancellation" in b"".join(await redis.lrange(ALERT_OUTBOX, 0, -1))  # type: ignore[misc]  # as above


async def test_events_behind_a_stuck_handler_run_in_its_place(run_all: RunAll) -> None:
    """All tasks of the pool are held, and another event of the same object waits."""
    stuck = [change("x", 1, "swallows_cancellation", number) for number in (1, 2, 3)]
    outcomes = await run_all(*stuck, change("y", 2, "ok", 1), change("y", 2, "ok", 4), MAX_OBJECTS="2")
    assert sorted(outcomes) == [("dead", "handler_stuck")] * 3 + [("processed", "")] * 2
