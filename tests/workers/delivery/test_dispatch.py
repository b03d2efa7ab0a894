"""workers.delivery.dispatch: which events reach a handler, how often, and how they are resolved."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import TimeoutError as RedisTimeoutError

from spokes.core import clock
from spokes.core.delivery import Delivery, Entry, decode
from spokes.core.errors import CRMUnavailable, RetryLater
from spokes.core.events import Event
from spokes.core.redis import keys
from spokes.core.redis.keys import JOB_QUEUE
from spokes.core.settings import Settings
from spokes.crm.services import CRM
from spokes.queue.pauses.portal_pauses import OPERATOR
from spokes.routing import uses
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from spokes.tools import Tools
from tests.workers.harness import KEYS, PORTAL, Harness, change, object_event
from workers.delivery.run_delivery import run_delivery
from workers.queue.claimed_job import ClaimedJob


async def test_burst_within_a_delivery_reaches_the_handler_once(harness: Harness) -> None:
    await harness.run((change("a", 1), change("c", 3), change("b", 2)))
    assert harness.calls == [("1", "a", "c", 2)]
    assert sorted(outcome for outcome, _ in await harness.outcomes()) == ["coalesced", "coalesced", "processed"]


async def test_burst_over_waiting_deliveries_reaches_the_handler_once(harness: Harness) -> None:
    await harness.run(*((change(str(at), at),) for at in range(1, 6)))
    assert harness.calls == [("1", "1", "5", 4)]


async def test_handler_that_declares_each_event_gets_each(harness: Harness) -> None:
    await harness.run((change("a", 1, "each"), change("b", 2, "each")))
    assert [call[2] for call in harness.calls] == ["a", "b"]


async def test_coalesced_events_wait_for_the_retry_of_the_newest(harness: Harness) -> None:
    harness.errors = [RetryLater()]
    await harness.run((change("a", 1), change("b", 2)))
    assert sorted(outcome for outcome, _ in await harness.outcomes()) == ["parked", "retried"]


async def test_failing_object_does_not_hold_up_others(harness: Harness) -> None:
    harness.errors = [RetryLater()]
    await harness.run((change("a", 1), change("b", 1, object_id=2), change("c", 1, object_id=3)))
    assert sorted(outcome for outcome, _ in await harness.outcomes()) == ["processed", "processed", "retried"]


async def test_deletion_older_than_an_applied_restoration_is_superseded(harness: Harness) -> None:
    await harness.run((object_event("restore", 1, at=9),))
    await harness.run((object_event("deletion", 1, at=5),))
    assert (await harness.outcomes())[-1] == ("superseded", "newer_change_applied")


async def test_own_write_in_another_spelling_is_an_echo(harness: Harness) -> None:
    await harness.crm.own_writes.record_write(PORTAL, "contact", "1", {"city": " Berlin "})
    await harness.run((change("berlin", 9, changeSource="INTEGRATION"),))
    assert await harness.outcomes() == [("echo", "own_write")]


async def test_change_by_our_app_of_a_property_we_wrote_is_an_echo(harness: Harness) -> None:
    await harness.crm.own_writes.record_write(PORTAL, "contact", "1", {"city": "Berlin"})
    await harness.run((change("BLN", 9, changeSource="INTEGRATION", sourceId="7788990"),))
    assert await harness.outcomes() == [("echo", "own_write")]


async def test_echo_does_not_supersede_an_older_change(harness: Harness) -> None:
    await harness.crm.own_writes.record_write(PORTAL, "contact", "1", {"city": "Berlin"})
    await harness.run((change("Berlin", 9, changeSource="INTEGRATION"),))
    await harness.run((change("Bonn", 8),))
    assert [call[2] for call in harness.calls] == ["Bonn"]


async def test_write_supersedes_changes_made_before_its_read_and_no_later_ones(
    harness: Harness, hubspot: Simulator
) -> None:
    contact = hubspot.crm.create(hubspot.crm.types.resolve("contacts"), {"city": "Bonn"}, USER)
    harness.register_writer()
    now_ms = clock.now_ms()
    object_id = int(contact.id)
    await harness.run((change("x", now_ms, "written", object_id),))
    await harness.run((change("before", now_ms - 60_000, object_id=object_id),))
    await harness.run((change("after", now_ms + 60_000, object_id=object_id),))
    assert [outcome for outcome, _ in await harness.outcomes()] == ["processed", "superseded", "processed"]
    assert [call[2] for call in harness.calls] == ["after"]


async def test_write_does_not_lower_the_newest_timestamp(harness: Harness, hubspot: Simulator) -> None:
    contact = hubspot.crm.create(hubspot.crm.types.resolve("contacts"), {"city": "Bonn"}, USER)
    harness.register_writer()
    now_ms, object_id = clock.now_ms(), int(contact.id)
    await harness.run((change("newest", now_ms + 60_000, object_id=object_id),))
    await harness.run((change("x", now_ms, "written", object_id),))
    await harness.run((change("older", now_ms + 30_000, object_id=object_id),))
    assert [outcome for outcome, _ in await harness.outcomes()] == ["processed", "processed", "superseded"]


async def test_superseded_event_settles_the_timestamp_that_supersedes_it(harness: Harness, redis: Redis) -> None:
    """The run that applied the newer change may have lost its lease, and could not settle the timestamp itself."""
    apply_answer = harness.parts.lanes._apply_answer

    def with_newer_change(*args: Any) -> list[Any]:
        busy = apply_answer(*args)
        for lane in harness.parts.lanes.held.values():
            lane.newest_applied["city"] = 9
        return busy

    harness.parts.lanes._apply_answer = with_newer_change  # type: ignore[method-assign]
    await harness.run((change("older", 5),))
    assert await redis.hgetall(keys.newest_timestamps(PORTAL, "contact", "1")) == {b"city": b"9"}  # type: ignore[misc]  # redis-py types one class for sync and async


async def test_redis_outage_during_a_call_postpones_its_event_and_closes_the_delivery(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def time_out(event: Event, handler: str) -> bool:
        raise RedisTimeoutError

    monkeypatch.setattr(harness.parts.dispatcher._rewrite_loops, "is_loop", time_out)
    async with asyncio.timeout(40):
        await harness.run((change("x", 1, changeSource="AUTOMATION_PLATFORM"),))
    assert await harness.outcomes() == [("parked", "redis_away")]


@pytest.mark.parametrize(("hours", "outcome"), [(1, "retried"), (25, "dead")])
async def test_hours_of_an_outage_count_from_the_first_failure_not_from_attempts(
    environ: dict[str, str], redis: Redis, hubspot: Simulator, hours: int, outcome: str
) -> None:
    settings = Settings.from_env({**environ, "HUBSPOT_API_URL": hubspot.url})
    crm = await CRM.open(settings, redis)
    await crm.check_token()
    harness = Harness(settings, redis, crm)
    harness.errors = [CRMUnavailable(status=503)]
    since = clock.now_ms() - hours * 3_600_000
    entry = Entry(KEYS(Event(raw := change("x", 1))), 1_000, raw, failing_since=since)
    delivery = await harness.queue_entries(entry)
    await run_delivery(ClaimedJob(delivery.id, delivery.to_job(), 1), harness.parts)
    assert await harness.outcomes() == [(outcome, "crm_unavailable")]
    await harness.parts.close()
    await crm.close()


async def test_first_failure_of_hubspot_is_stored_with_the_event(harness: Harness, redis: Redis) -> None:
    harness.errors = [CRMUnavailable(status=503)]
    before = clock.now_ms()
    await harness.run((change("x", 1),))
    (name,) = await redis.zrange(JOB_QUEUE, 0, -1)
    (entry,) = Delivery.from_job(decode(await redis.get(keys.JOB_KEY_PREFIX + name.decode()))["a"][0]).entries
    assert entry.attempt == 1
    assert before <= entry.failing_since <= clock.now_ms()


async def test_handlers_of_a_paused_portal_are_not_called(harness: Harness) -> None:
    await harness.pauses.pause(PORTAL, OPERATOR)
    await harness.run((change("x", 1),))
    assert (harness.calls, await harness.outcomes()) == ([], [("parked", "portal_paused")])


async def test_event_that_is_retried_holds_back_its_own_property_alone(harness: Harness, redis: Redis) -> None:
    harness.errors = [RetryLater(20)]
    kinds = (object_event("creation", 1, 3), change("c", 4, "each"), change("d", 5, "each"))
    await harness.run((change("a", 1, "city"), change("b", 2, "phone"), *kinds))
    waiting = [("retried", "retry_later")]
    assert sorted(await harness.outcomes()) == [("processed", "")] * 4 + waiting
    assert await redis.zcard(JOB_QUEUE) == 1


async def test_later_change_of_a_retried_property_waits_for_it(harness: Harness) -> None:
    @harness.router.register("contact.propertyChange", property="later")
    @uses(each_event=True)
    async def later(event: Event, tools: Tools) -> None:
        raise RetryLater(20)

    await harness.run((change("a", 1, "later"), change("b", 2, "later"), change("c", 3, "phone")))
    expected = [("parked", "behind_another"), ("processed", ""), ("retried", "retry_later")]
    assert sorted(await harness.outcomes()) == expected


async def test_long_wait_of_one_event_does_not_extend_the_short_wait_of_another(harness: Harness, redis: Redis) -> None:
    harness.errors = [RetryLater(3600), RetryLater(5)]
    await harness.run((change("a", 1, object_id=1), change("b", 2, object_id=2)))
    due = sorted(at - clock.now_ms() for _, at in await redis.zrange(JOB_QUEUE, 0, -1, withscores=True))
    assert due[0] < 10_000
    assert due[1] > 3_000_000
