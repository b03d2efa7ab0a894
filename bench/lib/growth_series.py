"""The cost of one more item, by the number of items, in CPU time, because other processes share the machine.

Redis is a Valkey started for the run, workers and web are real processes, the audit is SQLite on disk.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.audit_store import KEY, build_record, object_id, open_store
from bench.lib.runs import process_id, run_load
from bench.lib.servers import ALL_CORES, cpu_seconds, running_web
from bench.workers import PORTAL, creation_event, fill_queue, process_cpu_s, running_worker
from spokes.audit.archiver import Archiver
from spokes.audit.object_hashes import object_hash_key
from spokes.audit.stream import ENTRY_FIELD, encode
from spokes.audit.verification.verify import verify
from spokes.console.queries.history.objects import Reference
from spokes.console.queries.history.timeline import load_timeline
from spokes.core.delivery import Entry
from spokes.core.redis.keys import AUDIT_STREAM, JOB_QUEUE, WAKE_CHANNEL
from spokes.queue.dead_letters import DeadLetter, DeadLetters, store_commands

_EVENTS_PER_DELIVERY: Final = 10  # events of a delivery
_WARM_UP_EVENTS: Final = 3_000  # events until a worker has loaded its modules and filled its caches
_LETTERS: Final = 1_000  # per repeat
# The median is used: in some repeats Redis rewrites its append-only file, whose cost depends on all keys.
_REPEATS: Final = 5

_RECORDS: Final = 5_000
_QUERY_REPEATS: Final = 25  # times a query is repeated
_REQUESTS: Final = 8_000
_START_TIMEOUT_S: Final = 120.0

ProgressCallback = Callable[[str], None]
Sizes = Sequence[int]


@dataclass(slots=True)
class GrowthSeries:
    """The cost of one item (`cost_of`, in µs of CPU time unless it ends with ms), by the number of items (`counted`).

    Points below `fitted_from` are shown, but not fitted.
    """

    cost_of: str
    counted: str
    points: list[tuple[float, float]] = field(default_factory=list)
    fitted_from: int = 0


async def measure_queued(
    redis: Redis, url: str, data: str, sizes: Sizes, measured: int, *, progress: ProgressCallback
) -> list[GrowthSeries]:
    """Measure the cost of an event by the number of queued events."""
    worker_series, redis_series = (
        GrowthSeries("event, worker", "events queued"),
        GrowthSeries("event, Redis", "events queued"),
    )
    for depth in sizes:
        progress(f"{depth:,} events queued")
        await redis.flushall()
        await fill_queue(redis, depth, _EVENTS_PER_DELIVERY)
        with running_worker(url, data, "spokes") as process:
            await _keep_busy(redis, depth, _WARM_UP_EVENTS)
            before, redis_before = process_cpu_s(process.pid), await redis_cpu_s(redis)
            done = await _keep_busy(redis, depth, measured)
            worker_series.points.append((depth, (process_cpu_s(process.pid) - before) / done * 1e6))
            redis_series.points.append((depth, (await redis_cpu_s(redis) - redis_before) / done * 1e6))
    return [worker_series, redis_series]


async def _keep_busy(redis: Redis, depth: int, events: int) -> int:
    """Keep the queue at `depth` events until `events` are processed; return the number processed."""
    left = before = int(await redis.zcard(JOB_QUEUE))
    added = 0
    while before + added - left < events // _EVENTS_PER_DELIVERY:
        missing = depth // _EVENTS_PER_DELIVERY - left
        if missing > 0:
            await fill_queue(
                redis,
                missing * _EVENTS_PER_DELIVERY,
                _EVENTS_PER_DELIVERY,
                lambda number: creation_event(time.time_ns() % 10**9 + number),
            )
            added += missing
        await asyncio.sleep(0.005)
        left = int(await redis.zcard(JOB_QUEUE))
    return (before + added - left) * _EVENTS_PER_DELIVERY


async def measure_workers(
    redis: Redis, url: str, data: str, counts: Sizes, measured: int, *, progress: ProgressCallback
) -> list[GrowthSeries]:
    """Measure the cost of an event by the number of worker processes."""
    # A single worker has a core to itself; two share one with each other or with Redis if cores are hyper-threads.
    worker_series = GrowthSeries("event, all workers", "worker processes", fitted_from=2)
    redis_series = GrowthSeries("event, Redis", "worker processes", fitted_from=2)
    for count in counts:
        progress(f"{count} worker processes")
        await redis.flushall()
        with ExitStack() as stack:
            processes = [stack.enter_context(running_worker(url, data, "spokes")) for _ in range(count)]
            until = time.monotonic() + _START_TIMEOUT_S
            while (await redis.pubsub_numsub(WAKE_CHANNEL))[0][1] < count:
                if time.monotonic() > until:
                    raise TimeoutError(f"{count} workers did not start within {_START_TIMEOUT_S:.0f} s")
                await asyncio.sleep(0.1)
            await _process_events(redis, _WARM_UP_EVENTS * count)
            costs, redis_costs = [], []
            for _ in range(_REPEATS):
                before, redis_before = (
                    sum(process_cpu_s(process.pid) for process in processes),
                    await redis_cpu_s(redis),
                )
                await _process_events(redis, measured)
                costs.append((sum(process_cpu_s(process.pid) for process in processes) - before) / measured * 1e6)
                redis_costs.append((await redis_cpu_s(redis) - redis_before) / measured * 1e6)
            worker_series.points.append((count, statistics.median(costs)))
            redis_series.points.append((count, statistics.median(redis_costs)))
    return [worker_series, redis_series]


async def _process_events(redis: Redis, events: int) -> None:
    await fill_queue(redis, events, _EVENTS_PER_DELIVERY)
    await redis.publish(WAKE_CHANNEL, "")
    while await redis.zcard(JOB_QUEUE):  # noqa: ASYNC110 - other processes drain the queue
        await asyncio.sleep(0.02)


async def measure_deliveries(
    redis: Redis, url: str, data: str, sizes: Sizes, measured: int, *, progress: ProgressCallback
) -> list[GrowthSeries]:
    """Measure the cost of an event by the number of events in its delivery."""
    worker_series = GrowthSeries("event, worker", "events in a delivery")
    for size in sizes:
        progress(f"deliveries of {size}")
        await redis.flushall()
        events = max(measured, _WARM_UP_EVENTS) // size * size
        with running_worker(url, data, "spokes") as process:
            for _ in range(2):  # the first is the warm-up
                before = process_cpu_s(process.pid)
                await fill_queue(redis, events, size)
                await redis.publish(WAKE_CHANNEL, "")
                while await redis.zcard(JOB_QUEUE):  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.02)
            worker_series.points.append((size, (process_cpu_s(process.pid) - before) / events * 1e6))
    return [worker_series]


def measure_web(redis: BlockingRedis, folder: Path, sizes: Sizes, progress: ProgressCallback) -> list[GrowthSeries]:
    """Measure the cost of a request by the number of admitted and queued events."""
    worker_series, redis_series = (
        GrowthSeries("request of 1, web", "events admitted"),
        GrowthSeries("request of 1, Redis", "events admitted"),
    )
    for size in sizes:
        progress(f"web process, {size:,} events admitted")
        redis.flushall()
        with running_web(redis, folder, cores=ALL_CORES, MAX_BACKLOG="10000000") as (port, web):
            run_load(port, batch=100, requests=max(size // 100, 1), seconds=120.0, warm_up_s=0.0)
            before, redis_before = cpu_seconds(web.pid), cpu_seconds(process_id(redis))
            sent = run_load(port, batch=1, first=size, requests=_REQUESTS, seconds=60.0).sent
            worker_series.points.append((size + sent / 2, (cpu_seconds(web.pid) - before) / sent * 1e6))
            redis_series.points.append((size + sent / 2, (cpu_seconds(process_id(redis)) - redis_before) / sent * 1e6))
    return [worker_series, redis_series]


async def measure_dead_letters(redis: Redis, sizes: Sizes, progress: ProgressCallback) -> list[GrowthSeries]:
    """Measure the cost of storing, listing, replaying and counting dead letters by their number."""
    stored, listed = GrowthSeries("letter stored, Redis", "dead letters"), GrowthSeries("letter listed", "dead letters")
    replayed, overview = GrowthSeries("letter replayed", "dead letters"), GrowthSeries("overview, ms", "dead letters")
    await redis.flushall()
    total, letters = 0, DeadLetters(redis)
    for size in sizes:
        progress(f"{size:,} dead letters")
        await _add_dead_letters(redis, range(total, size))
        total = size + _REPEATS * _LETTERS
        costs = []
        for start in range(size, total, _LETTERS):
            before = await redis_cpu_s(redis)
            await _add_dead_letters(redis, range(start, start + _LETTERS))
            costs.append((await redis_cpu_s(redis) - before) / _LETTERS * 1e6)
        stored.points.append((size, statistics.median(costs)))
        overview.points.append((size, await _median_ms(lambda: letters.causes(PORTAL, 50))))
        newest: list[DeadLetter] = []
        count, began = 0, await _both_cpu_s(redis)
        async for letter in letters.list(PORTAL):
            count += 1
            if count <= _REPEATS * _LETTERS:
                newest.append(letter)
        listed.points.append((size, (await _both_cpu_s(redis) - began) / count * 1e6))
        costs = []
        for start in range(0, _REPEATS * _LETTERS, _LETTERS):
            began = await _both_cpu_s(redis)
            await letters.replay(newest[start : start + _LETTERS], actor="bench", reason="growth")
            costs.append((await _both_cpu_s(redis) - began) / _LETTERS * 1e6)
        replayed.points.append((size, statistics.median(costs)))
        await _store_dead_letters(redis, newest)
    return [stored, listed, replayed, overview]


async def _both_cpu_s(redis: Redis) -> float:
    """Return the CPU time that this process and Redis have used, in seconds."""
    return time.process_time() + await redis_cpu_s(redis)


async def _add_dead_letters(redis: Redis, numbers: Iterable[int]) -> None:
    await _store_dead_letters(redis, (_dead_letter(number) for number in numbers))


async def _store_dead_letters(redis: Redis, letters: Iterable[DeadLetter]) -> None:
    pipeline = redis.pipeline(transaction=False)
    for count, letter in enumerate(letters, start=1):
        for command in store_commands(letter, ttl_s=86_400):
            pipeline.execute_command(*command)
        if count % 2_000 == 0:
            await pipeline.execute()
    await pipeline.execute()


def _dead_letter(number: int) -> DeadLetter:
    entry = Entry(f"{number:020x}", 7, creation_event(number))
    return DeadLetter(PORTAL, f"{PORTAL}-{number // 100:x}", entry, "conflict", "contacts.x", 1795442400000 + number)


async def measure_records(redis: Redis, folder: Path, sizes: Sizes, progress: ProgressCallback) -> list[GrowthSeries]:
    """Measure the cost of archiving, verifying and querying by the number of audit records."""
    archived, verified = (
        GrowthSeries("record archived", "audit records"),
        GrowthSeries("record verified", "audit records"),
    )
    queried = GrowthSeries("timeline of an object, ms", "audit records")
    await redis.flushall()
    async with open_store("sqlite", folder) as (engine, _):
        archiver = Archiver(redis, engine, KEY)
        await archiver.run_once()  # creates the tables
        count = 0
        for size in sizes:
            progress(f"{size:,} audit records")
            await _archive(redis, archiver, range(count, size))
            used = await _archive(redis, archiver, range(size, size + _RECORDS))
            count = size + _RECORDS
            archived.points.append((size, used / _RECORDS * 1e6))
            began = time.process_time()
            await verify(engine, master_key=KEY)
            verified.points.append((size, (time.process_time() - began) / count * 1e6))
            queried.points.append((size, await _median_ms(lambda count=count: _timeline(redis, engine, count))))
    return [archived, verified, queried]


async def _archive(redis: Redis, archiver: Archiver, numbers: range) -> float:
    """Archive records; return the CPU time of archiving alone, in seconds."""
    used = 0.0
    for start in range(numbers.start, numbers.stop, 20_000):
        pipeline = redis.pipeline(transaction=False)
        for number in range(start, min(start + 20_000, numbers.stop)):
            pipeline.xadd(AUDIT_STREAM, {ENTRY_FIELD: encode(build_record(number))})
        await pipeline.execute()
        began = time.process_time()
        await archiver.drain()
        used += time.process_time() - began
    return used


async def _timeline(redis: Redis, engine: AsyncEngine, count: int) -> None:
    result = await load_timeline(
        redis, engine, None, Reference(object_id(count // 2 + 1)), hash_key=object_hash_key(KEY)
    )
    assert result.records  # noqa: S101 - an empty timeline would measure nothing


async def _median_ms(query: Callable[[], Awaitable[object]]) -> float:
    latencies = []
    for _ in range(_QUERY_REPEATS):
        began = time.perf_counter()
        await query()
        latencies.append((time.perf_counter() - began) * 1000)
    return statistics.median(latencies)


async def redis_cpu_s(redis: Redis) -> float:
    """Return the CPU time that Redis has used, in seconds."""
    info = cast("dict[str, float]", await redis.info("cpu"))
    return info["used_cpu_sys"] + info["used_cpu_user"]
