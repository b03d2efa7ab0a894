"""Worker processes that are killed, terminated, misconfigured, or refused by HubSpot."""

import asyncio
import signal

import pytest
from redis.asyncio import Redis

from spokes.core.delivery import Delivery, Entry, job_payload
from spokes.core.redis.keys import IN_PROGRESS_KEY_PREFIX, JOB_KEY_PREFIX, JOB_QUEUE, RETRY_KEY_PREFIX
from spokes.queue.dead_letters import DeadLetters
from spokes.simulator.api.faults import Fault
from spokes.simulator.app import Simulator
from spokes.simulator.config import Latency
from tests.support.events import event
from tests.support.processes.worker_processes import Workers, final_outcomes, queue, until, until_ready
from workers.lanes.lane_manager import LEASE_MS

pytestmark = pytest.mark.slow  # each test starts processes

WITHOUT_END = -1  # of a key, as PTTL returns it


async def test_jobs_of_a_killed_worker_run_elsewhere_once_its_leases_of_seconds_have_ended(
    redis: Redis, hubspot: Simulator, workers: Workers
) -> None:
    hubspot.faults.add(Fault(path="*/batch/read", times=1, latency=Latency(15_000)))
    await queue(redis, hubspot)
    killed = workers.start()
    await until("called", redis=redis, hubspot=hubspot)
    other = workers.start()
    await until_ready(other)
    killed.kill()
    leases = [*await redis.keys(IN_PROGRESS_KEY_PREFIX + "*"), *await redis.keys("spokes:*:lane:*")]
    left_ms = [await redis.pttl(lease) for lease in leases]
    await until("resolved", redis=redis, hubspot=hubspot)
    assert await final_outcomes(redis) == ["processed"]
    assert [ms for ms in left_ms if ms > LEASE_MS or ms == WITHOUT_END] == []
    assert LEASE_MS < 10_000


async def test_worker_that_was_stopped_writes_nothing_after_its_leases_have_lapsed(
    redis: Redis, hubspot: Simulator, workers: Workers
) -> None:
    hubspot.faults.add(Fault(path="*/batch/read", times=1, latency=Latency(2_000)))
    await queue(redis, hubspot)
    stopped = workers.start()
    await until("called", redis=redis, hubspot=hubspot)
    stopped.send_signal(signal.SIGSTOP)
    other = workers.start()
    await until("resolved", redis=redis, hubspot=hubspot)
    other.terminate()  # so that nothing but the stopped worker can write from now on
    await asyncio.to_thread(other.wait, 90)
    stopped.send_signal(signal.SIGCONT)
    stopped.terminate()
    await asyncio.to_thread(stopped.wait, 90)
    assert await final_outcomes(redis) == ["processed"]
    assert len(hubspot.requests.find(path="*/contacts/batch/update")) == 1


async def test_terminated_worker_finishes_its_jobs(redis: Redis, hubspot: Simulator, workers: Workers) -> None:
    hubspot.faults.add(Fault(path="*/batch/read", times=1, latency=Latency(1000)))
    await queue(redis, hubspot)
    worker = workers.start()
    await until("called", redis=redis, hubspot=hubspot)
    worker.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(worker.wait, 50) == 0
    assert await final_outcomes(redis) == ["processed"]


async def test_worker_without_a_token_exits_with_a_message(workers: Workers) -> None:
    worker = workers.start(HUBSPOT_ACCESS_TOKEN="")
    _, errors = worker.communicate(timeout=50)
    assert (worker.returncode, b"HUBSPOT_ACCESS_TOKEN" in errors, b"Traceback" in errors) == (2, True, False)


async def test_worker_with_a_refused_token_exits_with_a_message(workers: Workers) -> None:
    worker = workers.start(HUBSPOT_ACCESS_TOKEN="another-token-altogether")
    _, errors = await asyncio.to_thread(worker.communicate, timeout=50)
    assert (worker.returncode, b"HubSpot refuses HUBSPOT_ACCESS_TOKEN" in errors) == (2, True)
    assert b"Traceback" not in errors


async def test_worker_claims_nothing_until_hubspot_names_its_portal(
    redis: Redis, hubspot: Simulator, workers: Workers
) -> None:
    hubspot.faults.add(Fault(path="*/access-token-info", status=503))
    await queue(redis, hubspot)
    workers.start()
    while len(hubspot.requests.find(path="*/access-token-info")) < 2:  # noqa: ASYNC110 - nothing signals it
        await asyncio.sleep(0.05)
    assert await redis.keys(RETRY_KEY_PREFIX + "*") == []
    hubspot.faults.clear()
    await until("resolved", redis=redis, hubspot=hubspot)
    assert await final_outcomes(redis) == ["processed"]


async def test_only_the_event_that_kills_workers_becomes_a_dead_letter(redis: Redis, workers: Workers) -> None:
    raws = [event(objectId=object_id) for object_id in range(10, 16)]
    entries = tuple(Entry(f"{place:020x}", 0, raw) for place, raw in enumerate(raws))
    delivery = Delivery("50112233-1-1", 50112233, 1, entries)
    await redis.set(JOB_KEY_PREFIX + delivery.id, job_payload(delivery, 1))
    await redis.zadd(JOB_QUEUE, {delivery.id: 1})
    killed = 0
    while await redis.zcard(JOB_QUEUE):
        worker = workers.start(HANDLERS="tests.support.handlers.killing")
        while worker.poll() is None and await redis.zcard(JOB_QUEUE):  # noqa: ASYNC110 - another process gets there
            await asyncio.sleep(0.02)
        killed += worker.poll() == -signal.SIGKILL
        assert killed < 8
        for pattern in ("spokes:in-progress:*", "spokes:*:lane:*"):  # as if their leases had lapsed
            await redis.delete("none", *await redis.keys(pattern))
        for name in await redis.keys("spokes:*:deaths:*"):  # as if a minute had passed
            await redis.expire(name, 86_400 - 60)
    assert sorted(await final_outcomes(redis)) == ["dead"] + ["processed"] * 5
    letters = [letter async for letter in DeadLetters(redis).list(50112233)]
    assert [(letter.reason, letter.entry.event.object_id) for letter in letters] == [("crash_loop", "13")]
