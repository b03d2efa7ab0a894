"""What one more costs when so many are there already. Rule: counted in processor time, as others share the machine.

Redis is a Valkey of this run's own, workers and door are real processes, the audit is SQLite on disk.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

sys.path.insert(0, str(Path(__file__).parent.parent))  # run as a script, from anywhere

from lib.runs import process_id, run_load
from lib.servers import ALL_CORES, cpu_seconds, spokes
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.audit_store import KEY, object_id, record, store
from bench.workers import PORTAL, cpu_s, fill, raw, worker
from spokes.audit.archiver import Archiver
from spokes.audit.object_hashes import object_hash_key
from spokes.audit.stream import ENTRY_FIELD, encode
from spokes.audit.verify import verify
from spokes.console.queries.objects import Reference
from spokes.console.queries.timeline import load_timeline
from spokes.core.delivery import AUDIT_STREAM, JOB_QUEUE, WAKE_CHANNEL, Entry
from spokes.queue.dead_letters import DeadLetter, DeadLetters, store_commands

_SIZE: Final = 10  # events of a delivery
_WARM: Final = 3_000  # events until a worker has loaded and compiled what it uses
_LETTERS: Final = 1_000  # in each of
_ROUNDS: Final = (
    5  # whose median counts: in some of them Redis rewrites its file, which is the cost of all that is there
)
_RECORDS: Final = 5_000
_ASKED: Final = 25  # times a question is asked
_REQUESTS: Final = 8_000
_UP_WITHIN_S: Final = 120.0

Told = Callable[[str], None]
Sizes = Sequence[int]


@dataclass(slots=True)
class Series:
    """The cost of one (`per`, in µs of processor time unless it says ms), by how many there are (`of`).

    Points below `fitted_from` are shown, and left out of the fit.
    """

    per: str
    of: str
    points: list[tuple[float, float]] = field(default_factory=list)
    fitted_from: int = 0


async def queued(redis: Redis, url: str, data: str, sizes: Sizes, measured: int, *, told: Told) -> list[Series]:
    """An event's cost while so many others wait."""
    ours, its = Series("event, worker", "events queued"), Series("event, Redis", "events queued")
    for depth in sizes:
        told(f"{depth:,} events queued")
        await redis.flushall()
        await fill(redis, depth, _SIZE)
        with worker(url, data, "spokes") as process:
            await _keep_busy(redis, depth, _WARM)
            before, redis_before = cpu_s(process.pid), await redis_cpu_s(redis)
            done = await _keep_busy(redis, depth, measured)
            ours.points.append((depth, (cpu_s(process.pid) - before) / done * 1e6))
            its.points.append((depth, (await redis_cpu_s(redis) - redis_before) / done * 1e6))
    return [ours, its]


async def _keep_busy(redis: Redis, depth: int, events: int) -> int:
    """Top the queue up to `depth` events until so many are worked off; return how many were."""
    left = before = int(await redis.zcard(JOB_QUEUE))
    added = 0
    while before + added - left < events // _SIZE:
        missing = depth // _SIZE - left
        if missing > 0:
            await fill(redis, missing * _SIZE, _SIZE, lambda number: raw(time.time_ns() % 10**9 + number))
            added += missing
        await asyncio.sleep(0.005)
        left = int(await redis.zcard(JOB_QUEUE))
    return (before + added - left) * _SIZE


async def workers(redis: Redis, url: str, data: str, counts: Sizes, measured: int, *, told: Told) -> list[Series]:
    """An event's cost when so many worker processes share the queue."""
    # One alone has a core to itself, which two share with each other or with Redis where cores are threads of one.
    ours = Series("event, all workers", "worker processes", fitted_from=2)
    its = Series("event, Redis", "worker processes", fitted_from=2)
    for count in counts:
        told(f"{count} worker processes")
        await redis.flushall()
        with ExitStack() as stack:
            processes = [stack.enter_context(worker(url, data, "spokes")) for _ in range(count)]
            until = time.monotonic() + _UP_WITHIN_S
            while (await redis.pubsub_numsub(WAKE_CHANNEL))[0][1] < count:
                if time.monotonic() > until:
                    raise TimeoutError(f"{count} workers are not up within {_UP_WITHIN_S:.0f} s")
                await asyncio.sleep(0.1)
            await _worked_off(redis, _WARM * count)
            costs, its_costs = [], []
            for _ in range(_ROUNDS):
                before, redis_before = sum(cpu_s(one.pid) for one in processes), await redis_cpu_s(redis)
                await _worked_off(redis, measured)
                costs.append((sum(cpu_s(one.pid) for one in processes) - before) / measured * 1e6)
                its_costs.append((await redis_cpu_s(redis) - redis_before) / measured * 1e6)
            ours.points.append((count, statistics.median(costs)))
            its.points.append((count, statistics.median(its_costs)))
    return [ours, its]


async def _worked_off(redis: Redis, events: int) -> None:
    await fill(redis, events, _SIZE)
    await redis.publish(WAKE_CHANNEL, "")
    while await redis.zcard(JOB_QUEUE):  # noqa: ASYNC110 - other processes get there
        await asyncio.sleep(0.02)


async def deliveries(redis: Redis, url: str, data: str, sizes: Sizes, measured: int, *, told: Told) -> list[Series]:
    """A delivery's cost with so many events in it, as the share of one event times their number."""
    ours = Series("event, worker", "events in a delivery")
    for size in sizes:
        told(f"deliveries of {size}")
        await redis.flushall()
        events = max(measured, _WARM) // size * size
        with worker(url, data, "spokes") as process:
            for _ in range(2):  # the first is the warm-up
                before = cpu_s(process.pid)
                await fill(redis, events, size)
                await redis.publish(WAKE_CHANNEL, "")
                while await redis.zcard(JOB_QUEUE):  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.02)
            ours.points.append((size, (cpu_s(process.pid) - before) / events * 1e6))
    return [ours]


def door(redis: BlockingRedis, folder: Path, sizes: Sizes, told: Told) -> list[Series]:
    """A request's cost at the door when so many events are remembered and wait."""
    ours, its = Series("request of 1, door", "events admitted"), Series("request of 1, Redis", "events admitted")
    for size in sizes:
        told(f"door, {size:,} events admitted")
        redis.flushall()
        with spokes(redis, folder, cores=ALL_CORES, MAX_BACKLOG="10000000") as (port, web):
            run_load(port, batch=100, requests=max(size // 100, 1), seconds=120.0, warm_up_s=0.0)
            before, redis_before = cpu_seconds(web.pid), cpu_seconds(process_id(redis))
            sent = run_load(port, batch=1, first=size, requests=_REQUESTS, seconds=60.0).sent
            ours.points.append((size + sent / 2, (cpu_seconds(web.pid) - before) / sent * 1e6))
            its.points.append((size + sent / 2, (cpu_seconds(process_id(redis)) - redis_before) / sent * 1e6))
    return [ours, its]


async def dead_letters(redis: Redis, sizes: Sizes, told: Told) -> list[Series]:
    """What operators and workers pay when so many events have died."""
    kept, listed = Series("letter kept, Redis", "dead letters"), Series("letter listed", "dead letters")
    replayed, overview = Series("letter replayed", "dead letters"), Series("overview, ms", "dead letters")
    await redis.flushall()
    there, letters = 0, DeadLetters(redis)
    for size in sizes:
        told(f"{size:,} dead letters")
        await _die(redis, range(there, size))
        there = size + _ROUNDS * _LETTERS
        costs = []
        for start in range(size, there, _LETTERS):
            before = await redis_cpu_s(redis)
            await _die(redis, range(start, start + _LETTERS))
            costs.append((await redis_cpu_s(redis) - before) / _LETTERS * 1e6)
        kept.points.append((size, statistics.median(costs)))
        overview.points.append((size, await _median_ms(lambda: letters.causes(PORTAL, 50))))
        newest: list[DeadLetter] = []
        count, began = 0, await _both_cpu_s(redis)
        async for letter in letters.list(PORTAL):
            count += 1
            if count <= _ROUNDS * _LETTERS:
                newest.append(letter)
        listed.points.append((size, (await _both_cpu_s(redis) - began) / count * 1e6))
        costs = []
        for start in range(0, _ROUNDS * _LETTERS, _LETTERS):
            began = await _both_cpu_s(redis)
            await letters.replay(newest[start : start + _LETTERS], actor="bench", reason="growth")
            costs.append((await _both_cpu_s(redis) - began) / _LETTERS * 1e6)
        replayed.points.append((size, statistics.median(costs)))
        await _keep(redis, newest)
    return [kept, listed, replayed, overview]


async def _both_cpu_s(redis: Redis) -> float:
    """The processor time that this process and Redis have used, in seconds."""
    return time.process_time() + await redis_cpu_s(redis)


async def _die(redis: Redis, numbers: Iterable[int]) -> None:
    await _keep(redis, (_letter(number) for number in numbers))


async def _keep(redis: Redis, letters: Iterable[DeadLetter]) -> None:
    pipeline = redis.pipeline(transaction=False)
    for count, letter in enumerate(letters, start=1):
        for command in store_commands(letter, ttl_s=86_400):
            pipeline.execute_command(*command)
        if count % 2_000 == 0:
            await pipeline.execute()
    await pipeline.execute()


def _letter(number: int) -> DeadLetter:
    entry = Entry(f"{number:020x}", 7, raw(number))
    return DeadLetter(PORTAL, f"{PORTAL}-{number // 100:x}", entry, "conflict", "contacts.x", 1795442400000 + number)


async def records(redis: Redis, folder: Path, sizes: Sizes, told: Told) -> list[Series]:
    """What archiving, proving and asking cost when so many records are in the audit."""
    archived, proved = Series("record archived", "audit records"), Series("record verified", "audit records")
    asked = Series("timeline of an object, ms", "audit records")
    await redis.flushall()
    async with store("sqlite", folder) as (engine, _):
        archiver = Archiver(redis, engine, KEY)
        await archiver.run_once()  # makes the tables
        there = 0
        for size in sizes:
            told(f"{size:,} audit records")
            await _archive(redis, archiver, range(there, size))
            used = await _archive(redis, archiver, range(size, size + _RECORDS))
            there = size + _RECORDS
            archived.points.append((size, used / _RECORDS * 1e6))
            began = time.process_time()
            await verify(engine, master_key=KEY)
            proved.points.append((size, (time.process_time() - began) / there * 1e6))
            asked.points.append((size, await _median_ms(lambda there=there: _timeline(redis, engine, there))))
    return [archived, proved, asked]


async def _archive(redis: Redis, archiver: Archiver, numbers: range) -> float:
    """Archive; return the seconds of processor time that archiving alone took."""
    used = 0.0
    for start in range(numbers.start, numbers.stop, 20_000):
        pipeline = redis.pipeline(transaction=False)
        for number in range(start, min(start + 20_000, numbers.stop)):
            pipeline.xadd(AUDIT_STREAM, {ENTRY_FIELD: encode(record(number))})
        await pipeline.execute()
        began = time.process_time()
        await archiver.drain()
        used += time.process_time() - began
    return used


async def _timeline(redis: Redis, engine: AsyncEngine, there: int) -> None:
    found = await load_timeline(
        redis, engine, None, Reference(object_id(there // 2 + 1)), hash_key=object_hash_key(KEY)
    )
    assert found.records  # noqa: S101 - a timeline of nothing measures nothing


async def _median_ms(ask: Callable[[], Awaitable[object]]) -> float:
    taken = []
    for _ in range(_ASKED):
        began = time.perf_counter()
        await ask()
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


async def redis_cpu_s(redis: Redis) -> float:
    """Return the processor time that Redis has used, in seconds."""
    told = cast("dict[str, float]", await redis.info("cpu"))
    return told["used_cpu_sys"] + told["used_cpu_user"]
