"""Handlers that fail in every way: each event is resolved alone, the worker goes on. In a whole worker."""

import asyncio

import pytest
from redis.asyncio import Redis

from spokes.core.redis.keys import ALERT_OUTBOX
from tests.support.events import recorded
from tests.support.waiting import end, until
from tests.workers.conftest import RunAll
from tests.workers.harness import change


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
    async def outcomes() -> set[tuple[str, str]]:
        return {(record.outcome, record.reason) for record in await recorded(redis) if record.outcome}

    async def is_reported() -> bool:
        alerts = b"".join(await redis.lrange(ALERT_OUTBOX, 0, -1))  # type: ignore[misc]  # redis-py types one class for sync and async
        return bool(await outcomes()) and b"portal_paused" in alerts

    run = asyncio.ensure_future(run_all(change("not authorized", 1, "raises")))  # the event waits in the queue
    await until(is_reported)
    await end(run)
    assert await outcomes() == {("parked", "not_authorized")}


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
