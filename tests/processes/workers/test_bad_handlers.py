"""Worker processes with handlers that try to end or block them."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import orjson
import pytest
from redis.asyncio import Redis

from spokes.audit.records import TERMINAL
from spokes.core import clock
from spokes.core.delivery import Delivery, Entry, job_payload, new_delivery_id
from spokes.core.events import Event
from spokes.core.redis.keys import ALERT_OUTBOX, IN_PROGRESS_KEY_PREFIX, JOB_KEY_PREFIX, JOB_QUEUE, RETRY_KEY_PREFIX
from spokes.simulator.app import Simulator
from tests.support.deployment import ROOT
from tests.support.events import recorded
from tests.support.waiting import until
from tests.workers.harness import KEYS, PORTAL, change
from workers.lanes.lane_manager import LEASE_MS
from workers.upkeep.blocked_worker import EXIT_STATUS

pytestmark = pytest.mark.slow  # each test starts processes

StartWorker = Callable[..., "subprocess.Popen[bytes]"]
HANDLER_TIMEOUT_S = 1.0
EXIT_TIMEOUT_S = 90.0
PUBLIC_ERRORS = (  # those that pause the portal have a test of their own
    "CRMError", "TransientCRMError", "RateLimited", "ObjectLocked", "ObjectMerged", "CRMUnavailable", "RetryLater",
    "LeaseLost", "PermanentCRMError", "InvalidRequest", "NotPermitted", "ObjectNotFound", "Conflict",
    "AmbiguousReference", "NoCredentials", "SpokesError", "UnreadableDelivery", "SecretUnreadable", "QueueUnavailable",
)  # fmt: skip

HARMFUL_CALLS = (
    "os._exit", "os.abort", "os.kill", "SIGSTOP", "SIGTERM", "os.killpg", "raise_signal", "pthread_kill",
    "interrupt_main", "os.fork", "multiprocessing", "os.execv", "setrlimit", "ctypes",
)  # fmt: skip


@pytest.fixture
def start_worker(environ: dict[str, str], hubspot: Simulator) -> Iterator[StartWorker]:
    started: list[subprocess.Popen[bytes]] = []
    variables = {
        **os.environ, **environ, "HUBSPOT_API_URL": hubspot.url, "DATABASE_URL": "postgres://127.0.0.1:1/none",
        "HANDLERS": "chaos.bad_handlers", "HANDLER_TIMEOUT_S": str(HANDLER_TIMEOUT_S),
    }  # fmt: skip

    def start(*arguments: str, **more: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "workers", *arguments]
        process = subprocess.Popen(command, cwd=ROOT, env={**variables, **more}, stdout=subprocess.DEVNULL)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


async def queue(redis: Redis, *raws: dict[str, object]) -> None:
    entries = tuple(Entry(KEYS(Event(raw)), 0, raw) for raw in raws)
    delivery = Delivery(new_delivery_id(PORTAL), PORTAL, clock.now_ms(), entries)
    await redis.set(JOB_KEY_PREFIX + delivery.id, job_payload(delivery, delivery.received_at))
    await redis.zadd(JOB_QUEUE, {delivery.id: delivery.received_at})


async def final_outcomes(redis: Redis) -> list[tuple[str, str]]:
    records = await recorded(redis)
    return [(record.outcome.value, record.reason) for record in records if record.outcome in TERMINAL]


async def wait_for_outcomes(redis: Redis, count: int, *, seconds: float = 90.0) -> list[tuple[str, str]]:
    deadline = time.monotonic() + seconds
    while len(outcomes := await final_outcomes(redis)) < count and time.monotonic() < deadline:  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.05)
    return sorted(outcomes)


async def until_alerted(redis: Redis, *texts: str) -> None:
    """Wait until the messages of alerts contain each text: other tasks of a worker write them than those of events."""

    async def contain_all() -> bool:
        messages = b"".join(await redis.lrange(ALERT_OUTBOX, 0, -1))  # type: ignore[misc]  # redis-py types one class for sync and async
        return all(text.encode() in messages for text in texts)

    await until(contain_all)


async def exit_code(process: "subprocess.Popen[bytes]") -> int:
    return await asyncio.to_thread(process.wait, EXIT_TIMEOUT_S)


async def test_exits_of_handlers_and_their_tasks_do_not_end_the_worker(redis: Redis, start_worker: StartWorker) -> None:
    names = ("exits_in_group", "exits_in_gather", "exits_in_background")
    exits = [change("x", 1, name, number) for number, name in enumerate(names, 1)]
    await queue(redis, *exits, change("SystemExit", 1, "raises", 7), *(change("x", 1, "ok", n) for n in range(8, 12)))
    process = start_worker()
    dead = [("dead", "handler_error:SystemExit")] * 3
    assert await wait_for_outcomes(redis, 8) == [*dead, *[("processed", "")] * 5]
    assert process.poll() is None


@pytest.mark.parametrize(
    "name",
    [
        "stops_loop", "leaves_thread", "raises_in_timer", "replaces_sleep", "sets_task_factory", "ignores_sigterm",
        "replaces_clocks", "cancels_lane_pool",
    ],
)  # fmt: skip
async def test_handler_that_harms_the_event_loop_does_not_end_the_worker(
    redis: Redis, start_worker: StartWorker, name: str
) -> None:
    await queue(redis, change("x", 1, name), change("x", 1, "ok", 2))
    process = start_worker()
    assert await wait_for_outcomes(redis, 2) == [("processed", "")] * 2
    await queue(redis, change("x", 1, "ok", 3))
    assert await wait_for_outcomes(redis, 3) == [("processed", "")] * 3
    process.send_signal(signal.SIGTERM)
    assert await exit_code(process) == 0


async def test_handler_that_takes_the_executor_fails_alone(redis: Redis, start_worker: StartWorker) -> None:
    names = ("ends_executor", "replaces_executor", "uses_thread")
    await queue(redis, *(change("x", 1, name, number) for number, name in enumerate(names, 1)))
    process = start_worker()
    refused = [("dead", "handler_error:ProcessCallRefused")] * 2
    assert await wait_for_outcomes(redis, 3) == [*refused, ("processed", "")]
    process.send_signal(signal.SIGTERM)
    assert await exit_code(process) == 0


async def test_handler_that_cuts_all_connections_costs_no_event(redis: Redis, start_worker: StartWorker) -> None:
    await queue(redis, change("x", 1, "cuts_connections"), *(change("x", 1, "ok", number) for number in range(2, 6)))
    process = start_worker()
    assert await wait_for_outcomes(redis, 5) == [("processed", "")] * 5
    process.send_signal(signal.SIGTERM)
    assert await exit_code(process) == 0


async def test_call_that_would_harm_the_worker_fails_its_event_alone(redis: Redis, start_worker: StartWorker) -> None:
    harms = [change(call, 1, "harms_process", number) for number, call in enumerate(HARMFUL_CALLS, 1)]
    await queue(redis, *harms, *(change("x", 1, "ok", number) for number in (51, 52)))
    process = start_worker()
    refused = [("dead", "handler_error:ProcessCallRefused")] * len(HARMFUL_CALLS)
    assert await wait_for_outcomes(redis, len(harms) + 2) == [*refused, *[("processed", "")] * 2]
    assert process.poll() is None
    await until_alerted(redis, "process_call_refused", "bad_handlers.harms_process")


@pytest.mark.parametrize("arguments", [(), ("--burst",)])
async def test_worker_exits_though_a_handler_never_ends(
    redis: Redis, start_worker: StartWorker, arguments: tuple[str, ...]
) -> None:
    await queue(redis, change("x", 1, "never_ends"), change("x", 1, "ok", 2))
    process = start_worker(*arguments)
    assert await wait_for_outcomes(redis, 2) == [("dead", "handler_stuck"), ("processed", "")]
    if not arguments:
        process.send_signal(signal.SIGTERM)
    assert await exit_code(process) == 0
    await until_alerted(redis, "bad_handlers.never_ends")


async def test_worker_whose_tasks_a_handler_cancels_ends_with_an_error_and_loses_nothing(
    redis: Redis, start_worker: StartWorker
) -> None:
    await queue(redis, change("x", 1, "cancels_all_tasks"))
    assert await exit_code(start_worker()) == 1
    await queue(redis, change("x", 1, "ok", 2))
    start_worker()
    assert len(await wait_for_outcomes(redis, 2)) == 2


async def test_event_of_a_handler_that_closes_the_output_ends_and_the_others_run(
    redis: Redis, start_worker: StartWorker
) -> None:
    await queue(redis, change("x", 1, "closes_output"), change("x", 1, "ok", 2))
    start_worker()
    assert await wait_for_outcomes(redis, 2) == [("dead", "handler_error:ValueError"), ("processed", "")]


async def test_blocked_worker_ends_itself_and_its_event_becomes_a_dead_letter(
    redis: Redis, start_worker: StartWorker
) -> None:
    await queue(redis, change("x", 1, "blocks"), *(change("x", 1, "ok", number) for number in (2, 3)))
    process = start_worker()
    assert await exit_code(process) == EXIT_STATUS
    await until_alerted(redis, "bad_handlers.blocks")
    start_worker()
    assert await wait_for_outcomes(redis, 3) == [("dead", "crash_loop"), *[("processed", "")] * 2]


async def test_event_that_crashes_two_workers_in_c_is_dead_and_the_others_run(
    redis: Redis, start_worker: StartWorker
) -> None:
    await queue(redis, change("0", 1, "crashes"), *(change("x", 1, "ok", number) for number in (2, 3)))
    for _ in range(2):
        assert await exit_code(start_worker()) == -signal.SIGSEGV
    process = start_worker()
    assert await wait_for_outcomes(redis, 3) == [("dead", "crash_loop"), *[("processed", "")] * 2]
    assert process.poll() is None
    await until_alerted(redis, "worker_crashed", "crash_loop")
    alerts = [orjson.loads(alert) for alert in await redis.lrange(ALERT_OUTBOX, 0, -1)]  # type: ignore[misc]  # as above
    key = KEYS(Event(change("0", 1, "crashes")))
    named = {(alert["alert"], alert["fields"].get("handler"), alert["fields"].get("event_key")) for alert in alerts}
    assert named >= {(name, "bad_handlers.crashes", key) for name in ("worker_crashed", "crash_loop")}


async def test_code_in_c_that_holds_the_interpreter_lock_is_named_after_the_restart(
    redis: Redis, start_worker: StartWorker
) -> None:
    await queue(redis, change("x", 1, "blocks_interpreter"), change("x", 1, "ok", 2))
    assert await exit_code(start_worker()) == 1
    start_worker()
    assert await wait_for_outcomes(redis, 2) == [("dead", "crash_loop"), ("processed", "")]
    await until_alerted(redis, "worker_blocked", "bad_handlers.blocks_interpreter")


async def test_handler_that_blocks_longer_than_a_lease_runs_on_one_worker_only(
    redis: Redis, start_worker: StartWorker
) -> None:
    for _ in range(2):
        start_worker(HANDLER_TIMEOUT_S="10")
    blocked_s = LEASE_MS / 1000 + 4
    await queue(redis, change(str(blocked_s), 1, "blocks_briefly"), change("x", 1, "ok", 2))
    claims: set[int] = set()
    deadline = time.monotonic() + 120
    while len(await final_outcomes(redis)) < 2 and time.monotonic() < deadline:
        counts = [await redis.get(key) async for key in redis.scan_iter(RETRY_KEY_PREFIX + "*")]
        claims |= {int(count) for count in counts if count}  # a job that has just ended has none
        await asyncio.sleep(0.1)
    assert await final_outcomes(redis) == [("processed", "")] * 2
    assert claims == {1}


async def test_event_whose_workers_are_killed_by_the_platform_is_processed(
    redis: Redis, start_worker: StartWorker
) -> None:
    await queue(redis, change("1.5", 1, "waits"), change("x", 1, "ok", 2))
    for _ in range(7):
        process = start_worker(HANDLER_TIMEOUT_S="10")
        await asyncio.sleep(0.1)
        deadline = time.monotonic() + 3  # the event may wait now
        while not await leases_on_jobs(redis) and time.monotonic() < deadline:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
        process.kill()
        await exit_code(process)
        if leases := [*await leases_on_jobs(redis), *await redis.keys("spokes:*:lane:*")]:
            await redis.delete(*leases)  # as if they had lapsed
    start_worker(HANDLER_TIMEOUT_S="10")
    assert await wait_for_outcomes(redis, 2) == [("processed", "")] * 2


@pytest.mark.slow  # the worker asks HubSpot about the token every 10 s
async def test_handler_that_always_raises_not_authorized_ends_though_the_token_is_good(
    redis: Redis, start_worker: StartWorker
) -> None:
    await queue(redis, change("NotAuthorized", 1, "raises"))
    start_worker(RETRY_SCHEDULE_S="0.2,0.2", OUTAGE_RETRY_HOURS="0")
    async with without_waits(redis):
        assert await wait_for_outcomes(redis, 1) == [("dead", "not_authorized")]
    runs = [record.outcome.value for record in await recorded(redis) if record.handler == "bad_handlers.raises"]
    assert (runs[0], runs[-2:], len(runs)) == ("parked", ["retried", "dead"], 6)
    await until_alerted(redis, "waiting_did_not_help")


@pytest.mark.slow  # a lost lease is waited for twenty times
async def test_handler_that_always_raises_a_public_error_ends(redis: Redis, start_worker: StartWorker) -> None:
    await queue(redis, *(change(name, 1, "raises", number) for number, name in enumerate(PUBLIC_ERRORS, 1)))
    start_worker(RETRY_SCHEDULE_S="0.2,0.2", OUTAGE_RETRY_HOURS="0")
    async with without_waits(redis):
        outcomes = await wait_for_outcomes(redis, len(PUBLIC_ERRORS))
    assert [outcome for outcome, _ in outcomes] == ["dead"] * len(PUBLIC_ERRORS)


@asynccontextmanager
async def without_waits(redis: Redis) -> AsyncIterator[None]:
    """Make every waiting delivery due at once while the block runs."""

    async def hurry() -> None:
        while True:
            for name in await redis.zrange(JOB_QUEUE, 0, -1):
                await redis.zadd(JOB_QUEUE, {name: 1}, xx=True)
            await asyncio.sleep(0.3)

    task = asyncio.create_task(hurry())
    try:
        yield
    finally:
        task.cancel()


async def leases_on_jobs(redis: Redis) -> list[bytes]:
    return list(await redis.keys(IN_PROGRESS_KEY_PREFIX + "*"))
