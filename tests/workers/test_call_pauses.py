"""Pauses of one kind of call, with a worker's parts and the simulator: who waits, who runs, what a probe changes."""

import asyncio
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from spokes.core import clock
from spokes.core.delivery import Delivery, decode
from spokes.core.errors import RetryLater
from spokes.core.redis import keys
from spokes.queue.held_deliveries import Calls
from spokes.queue.pauses.call_pauses import CallPause
from spokes.simulator.api.faults import Fault
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from tests.workers.harness import PORTAL, Harness, change
from workers.delivery.run_delivery import run_delivery
from workers.queue.claimed_job import ClaimedJob

WRITES = Calls(PORTAL, "contacts.write")


@pytest.fixture
async def paused(harness: Harness) -> Harness:
    """A worker with a handler that writes contacts, while calls that write contacts are paused and a probe is due."""
    harness.register_writer()
    harness.crm.observe_calls(harness.pauses.calls.breaker)
    await harness.pauses.calls.pause(WRITES, "crm_unavailable", 0.0, failed_probes=0)
    return harness


def contact(hubspot: Simulator) -> int:
    return int(hubspot.crm.create(hubspot.crm.types.resolve("contacts"), {"city": "Bonn"}, USER).id)


async def held(redis: Redis) -> list[str]:
    return [name.decode() for name in await redis.zrange(keys.held_deliveries(*WRITES), 0, -1)]


async def stored(redis: Redis, delivery_id: str) -> Delivery:
    return Delivery.from_job(decode(await redis.get(keys.JOB_KEY_PREFIX + delivery_id))["a"][0])


async def run_probe(paused: Harness) -> None:
    """Release a probe as a worker does each second, and run its delivery."""
    await paused.pauses.calls.refresh()
    name = await paused.redis.get(keys.probe(*WRITES))
    assert name is not None
    (first,) = await paused.redis.zrange(keys.JOB_QUEUE, 0, 0)
    assert first == name
    delivery = await stored(paused.redis, name.decode())
    await run_delivery(ClaimedJob(delivery.id, delivery.to_job(), 1), paused.parts)


async def pauses(paused: Harness) -> list[CallPause]:
    return await paused.pauses.calls.list()


async def test_event_that_needs_paused_calls_waits_without_an_attempt_and_others_run(
    paused: Harness, redis: Redis, hubspot: Simulator
) -> None:
    record = contact(hubspot)
    await paused.run((change("x", 2, "written", record), change("y", 3, "city", record)))
    assert sorted(await paused.outcomes()) == [("parked", "calls_paused"), ("processed", "")]
    (delivery_id,) = await held(redis)
    assert [(entry.attempt, entry.free_runs) for entry in (await stored(redis, delivery_id)).entries] == [(0, 0)]


async def test_first_answer_of_a_probe_ends_the_pause_and_makes_all_events_due(
    paused: Harness, redis: Redis, hubspot: Simulator
) -> None:
    for _ in range(3):
        await paused.run((change("x", 2, "written", contact(hubspot)),))
    waiting = await held(redis)
    await run_probe(paused)
    assert (await pauses(paused), await held(redis)) == ([], [])
    due = dict(await redis.zrange(keys.JOB_QUEUE, 0, -1, withscores=True))
    in_a_minute = clock.now_ms() + 60_000
    assert [due[name.encode()] < in_a_minute for name in waiting[1:]] == [True, True]
    assert [outcome for outcome, _ in await paused.outcomes()].count("processed") == 1
    assert not await redis.hkeys(keys.ALERTS_ACTIVE)


async def test_one_event_of_a_released_delivery_is_the_probe_and_its_failure_lengthens_the_pause(
    paused: Harness, redis: Redis, hubspot: Simulator
) -> None:
    hubspot.faults.add(Fault(method="PATCH", status=503))
    await paused.run(tuple(change("x", 2, "written", contact(hubspot)) for _ in range(5)))
    await paused.run((change("x", 2, "written", contact(hubspot)),))
    await run_probe(paused)
    assert len(hubspot.requests.find(method="PATCH")) == 1
    (pause,) = await pauses(paused)
    assert pause.failed_probes == 1
    assert 10 / 2 <= pause.until - pause.since <= 30
    entries = [entry for name in await held(redis) for entry in (await stored(redis, name)).entries]
    assert sorted(entry.attempt for entry in entries) == [0, 0, 0, 0, 0, 1]
    assert not await redis.exists(keys.probe(*WRITES))


async def test_probe_that_makes_no_such_call_leaves_the_decision_to_the_next_event(
    paused: Harness, redis: Redis, hubspot: Simulator
) -> None:
    paused.pauses.calls.note_caller(WRITES.kind, "harness.record")
    await paused.run((change("x", 2, "city", 3),))
    await paused.run((change("x", 2, "written", contact(hubspot)),))
    await run_probe(paused)
    assert (paused.calls[0][0], [pause.failed_probes for pause in await pauses(paused)]) == ("3", [0])
    await run_probe(paused)
    assert await pauses(paused) == []


async def test_refusal_of_a_probes_call_ends_the_pause_too(paused: Harness, redis: Redis, hubspot: Simulator) -> None:
    await paused.run((change("x", 2, "written", 404),))
    await run_probe(paused)
    assert await pauses(paused) == []
    assert ("dead", "object_not_found") in await paused.outcomes()


async def test_retry_of_a_handler_without_the_calls_keeps_its_own_delay(paused: Harness, redis: Redis) -> None:
    paused.errors = [RetryLater(20)]
    await paused.run((change("x", 2, "city"),))
    assert await held(redis) == []


async def test_two_workers_release_one_probe(paused: Harness, redis: Redis, hubspot: Simulator) -> None:
    for _ in range(4):
        await paused.run((change("x", 2, "written", contact(hubspot)),))
    await asyncio.gather(*(paused.pauses.calls.refresh() for _ in range(5)))
    assert len(await held(redis)) == 3


async def test_end_of_the_pause_by_another_process_releases_the_events(
    paused: Harness, redis: Redis, hubspot: Simulator
) -> None:
    await paused.run((change("x", 2, "written", contact(hubspot)),))
    await redis.delete(keys.PAUSED_CALLS)
    await paused.pauses.refresh()
    assert await held(redis) == []
    await paused.run((change("x", 2, "written", contact(hubspot)),))
    assert ("processed", "") in await paused.outcomes()


async def test_event_that_failed_twice_as_probe_leaves_the_probe_to_a_newer_one(
    paused: Harness, redis: Redis, hubspot: Simulator
) -> None:
    poisoned = contact(hubspot)
    hubspot.faults.add(Fault(method="PATCH", path=f"*/{poisoned}", status=503))
    await paused.run((change("x", 2, "written", poisoned),))
    for _ in range(2):
        await run_probe(paused)
        (pause,) = await pauses(paused)
        paused.pauses.calls._pauses[WRITES] = replace(pause, until=0.0)
        await redis.hset(keys.PAUSED_CALLS, pause.field, replace(pause, until=0.0).to_json())
    await paused.run((change("x", 2, "written", contact(hubspot)),))
    await run_probe(paused)
    assert await pauses(paused) == []
    assert [outcome for outcome, _ in await paused.outcomes()].count("retried") == 2


async def test_retry_after_of_a_failed_probe_lengthens_the_pause(
    paused: Harness, redis: Redis, hubspot: Simulator
) -> None:
    hubspot.faults.add(Fault(method="PATCH", status=503, retry_after="900"))
    await paused.run((change("x", 2, "written", contact(hubspot)),))
    await run_probe(paused)
    (pause,) = await pauses(paused)
    assert pause.until - clock.now_s() == pytest.approx(900, abs=60)
