"""Errors of our own between claim and resolution: every event ends, and others go on.

Redis keys of a wrong type cause most of them.
"""

from collections.abc import Iterator
from typing import NoReturn

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from spokes.core import clock
from spokes.core.delivery import Delivery, Entry, job_payload, new_delivery_id
from spokes.core.events import Event
from spokes.core.redis import keys
from spokes.core.redis.keys import ALERT_OUTBOX, JOB_KEY_PREFIX, JOB_QUEUE
from spokes.queue.dead_letters import DeadLetters
from tests.workers.conftest import RunAll
from tests.workers.harness import KEYS, PORTAL, Harness, change
from workers.delivery.rewrite_loops import RewriteLoopDetector
from workers.delivery.run_delivery import run_delivery
from workers.queue.claimed_job import ClaimedJob, DeliveryEnd


@pytest.fixture(autouse=True)
def _captured_logs() -> Iterator[None]:
    """Format no tracebacks: without our log set-up that takes seconds for each."""
    with capture_logs():
        yield


OTHERS = [("processed", "")] * 3


def events() -> tuple[dict[str, object], ...]:
    return tuple(change("x", 1, "ok", number) for number in range(1, 5))


async def alerts(redis: Redis) -> bytes:
    return b"".join(await redis.lrange(ALERT_OUTBOX, 0, -1))  # type: ignore[misc]  # redis-py types one class for sync and async


async def test_event_whose_lane_cannot_be_acquired_becomes_a_dead_letter_alone(redis: Redis, run_all: RunAll) -> None:
    await redis.set(keys.has_merges(PORTAL), 1)
    await redis.rpush(keys.surviving_id(PORTAL, "contact", "1"), "text")  # type: ignore[misc]  # redis-py types one class for sync and async
    outcomes = await run_all(*events())
    final = [outcome for outcome in outcomes if outcome[0] not in {"parked", "retried"}]
    assert sorted(final) == [("dead", "internal_error"), *OTHERS]
    assert b"internal_error" in await alerts(redis)
    (letter,) = [letter async for letter in DeadLetters(redis).list(PORTAL)]
    assert (letter.reason, letter.entry.raw["objectId"]) == ("internal_error", 1)


async def test_event_that_fails_before_its_handler_is_retried_and_becomes_a_dead_letter_alone(
    redis: Redis, run_all: RunAll, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def is_loop(_: RewriteLoopDetector, event: Event, handler: str) -> bool:
        return 1 // (int(event.object_id) - 1) < 0

    monkeypatch.setattr(RewriteLoopDetector, "is_loop", is_loop)
    outcomes = await run_all(*({**raw, "changeSource": "AUTOMATION_PLATFORM"} for raw in events()))
    assert sorted(outcomes) == sorted([*[("retried", "internal_error")] * 2, ("dead", "internal_error"), *OTHERS])
    assert b"internal_error" in await alerts(redis)


@pytest.mark.slow
async def test_delivery_that_cannot_even_be_settled_is_quarantined(
    redis: Redis, run_all: RunAll, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> NoReturn:
        raise ZeroDivisionError

    monkeypatch.setattr("workers.lanes.lane_manager.LaneManager.acquire", fail)
    monkeypatch.setattr("workers.delivery.failed_deliveries.settled_keys", fail)
    outcomes = await run_all(*events()[:1])
    assert ("dead", "unreadable_delivery") in outcomes
    assert await redis.zcard(keys.quarantine_index(PORTAL)) == 1
    assert b"unreadable_delivery" in await alerts(redis)


async def test_entry_that_is_no_event_is_set_aside_alone(harness: Harness, redis: Redis) -> None:
    raw = change("x", 1)
    entries = (Entry(KEYS(Event(raw)), 0, raw), Entry("bad", 0, {"subscriptionType": 7}))
    delivery = Delivery(new_delivery_id(PORTAL), PORTAL, clock.now_ms(), entries)
    await redis.set(JOB_KEY_PREFIX + delivery.id, job_payload(delivery, 1))
    await redis.zadd(JOB_QUEUE, {delivery.id: 1})
    end = await run_delivery(ClaimedJob(delivery.id, delivery.to_job(), 1), harness.parts)
    assert (end, sorted(await harness.outcomes())) == (
        DeliveryEnd.CLOSED,
        [("dead", "unreadable_delivery"), ("processed", "")],
    )
    (content,) = [content async for content in harness.parts.quarantine.list(PORTAL)]
    assert harness.parts.quarantine.field_types(content) == {"subscriptionType": "number"}
    assert b"subscriptionType" not in (await redis.get(keys.quarantined_content(PORTAL, content.key)) or b"")


async def test_run_whose_event_cannot_be_resolved_fails_and_stays_queued(
    harness: Harness, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("workers.delivery.settlement_steps.final_steps", fail)
    monkeypatch.setattr("workers.delivery.settlement_steps.postpone_step", fail)
    with pytest.raises(ZeroDivisionError):
        await harness.run((change("x", 1),))
    assert await redis.zcard(JOB_QUEUE) == 1
    assert not harness.parts.lanes.held
