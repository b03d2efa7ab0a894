"""How fast the door is: `python bench/receiver.py`. Rule: beside its ceilings in one run, and every answer checked.

One web process on core 0; Valkey, the load and this script on core 1. Each request is signed and distinct; after each
run the queue must hold exactly the wanted events of the requests that were acknowledged.
"""

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lib.runs import WARM_UP_S, WrongRun, check_queue, memory_bytes, most_requests, process_id, run_load
from lib.servers import (
    OTHER_CORES,
    PINNED,
    ROOT,
    await_ready,
    free_port,
    pin,
    process,
    resident_mb,
    spokes,
    valkey,
)  # fmt: skip
from lib.tables import Cell, bar, comparison, middle, redis_table, section, write_section
from redis import Redis
from rich.progress import Progress
from scale import long_run, several

OURS: Final = "Spokes"
BARE: Final = "aiohttp, bare"
CEILING: Final = "aiohttp, verify + parse + filter"
NAMES: Final = (BARE, CEILING, OURS)


@dataclass(frozen=True, slots=True)
class Bench:
    """What is running, and how long each run takes."""

    redis: Redis
    targets: dict[str, tuple[int, int]]  # name -> port, process id
    seconds: float


@contextmanager
def running(seconds: float) -> Iterator[Bench]:
    """Run Valkey, Spokes and the ceilings while the block lasts."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="spokes-bench-")))
        redis = stack.enter_context(valkey(folder))
        port, web = stack.enter_context(spokes(redis, folder))
        targets = {OURS: (port, web.pid)}
        for name, handler in ((BARE, "bare"), (CEILING, "verified")):
            port = free_port()
            words = [str(ROOT / "bench/ceilings.py"), handler, "--port", str(port)]
            server = stack.enter_context(process(words, {}, folder / "ceilings.log"))
            await_ready(server, f"http://127.0.0.1:{port}/readyz")
            targets[name] = (port, server.pid)
        yield Bench(redis, targets, seconds)


def measure(bench: Bench, name: str, batch: int, repeat: int) -> Cell:
    """Run one target under full load, then under light load."""
    port, pid = bench.targets[name]
    redis, ours = bench.redis, name == OURS
    redis.flushall()
    before = memory_bytes(redis)
    most = most_requests(batch, bench.seconds + WARM_UP_S)
    watch = (pid, process_id(redis))
    full = run_load(port, batch=batch, requests=most, seconds=bench.seconds, watch=watch, again=not ours)
    admitted = check_queue(redis, full.sent, batch) if ours else 0
    held = memory_bytes(redis) - before
    redis.flushall()
    few = int(1000 * bench.seconds)
    light = run_load(port, batch=batch, requests=few, seconds=bench.seconds, connections=4, pause_ms=8)
    if ours:
        check_queue(redis, light.sent, batch)
    server_cpu, redis_cpu, load_cpu = full.cpu
    return Cell(
        name,
        batch,
        repeat,
        requests_s=full.answered / full.seconds,
        cpu_s=server_cpu / full.answered / batch * 1000,
        server_busy=server_cpu / full.seconds,
        load_busy=load_cpu / full.seconds,
        p50_ms=light.p50_ms,
        p99_ms=light.p99_ms,
        redis_bytes=held / admitted if admitted else 0.0,
        redis_cpu_ms=redis_cpu / full.answered / batch * 100_000,
    )


def compare(bench: Bench, batches: list[int], repeats: int, progress: Progress) -> str:
    """Return the tables of Spokes beside its ceilings."""
    started_with = resident_mb(bench.targets[OURS][1])
    task = progress.add_task("receiver", total=len(batches) * repeats * len(NAMES))
    cells = []
    for repeat in range(repeats):
        for batch in batches:
            for name in random.sample(NAMES, len(NAMES)):
                progress.update(task, description=f"{name}, {batch} a request")
                cells.append(measure(bench, name, batch, repeat))
                progress.advance(task)
    ended_with = resident_mb(bench.targets[OURS][1])
    note = (
        f"x: against {CEILING}. Both ceilings run on uvloop, remember nothing, and may be sent a request again. Light "
        "load: 4 connections that pause 4 to 12 ms; all other figures: 10 connections without pause.\n"
    )
    memory = f"Spokes' resident memory: {started_with:.0f} MB at the start, {ended_with:.0f} MB at the end.\n"
    return "\n".join([comparison(cells, NAMES, CEILING), note, redis_table(cells, OURS), memory, bottleneck(cells)])


def bottleneck(cells: list[Cell]) -> str:
    """Return whether the load could keep up with a server that does nothing."""
    said = []
    for batch in sorted({cell.batch for cell in cells}):
        server = middle(cells, BARE, batch, lambda cell: cell.server_busy)
        load = middle(cells, BARE, batch, lambda cell: cell.load_busy)
        said.append(f"at {batch} a request {_verdict(server, load)} (server {server:.2f} busy, load {load:.2f})")
    return f"Against the bare handler: {'; '.join(said)}."


def _verdict(server: float, load: float) -> str:
    """Who set the rate, judged by the shares of a core that both had."""
    if server > 0.9:
        return "the load kept up"
    if load > 0.8:
        return "the load was the bottleneck, so the bare figure is the load's own"
    return "neither was busy, so other work of this machine set the rate"


def main() -> int:
    """Measure what was asked for, print it, and write it down unless it was a quick look."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1 x 1.5 s instead of 3 x 3 s; nothing is written down")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 10, 100], help="events in a request")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run")
    parser.add_argument("--memory", action="store_true", help="instead: memory after 1,000,000 events")
    parser.add_argument("--processes", type=int, default=1, help="instead: so many web processes against one")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/bench.md")
    given = parser.parse_args()
    repeats, seconds = (1, 1.5) if given.quick else (given.repeats, given.seconds)
    try:
        with bar() as progress:
            if given.processes > 1:
                title, text = (
                    "Several web processes",
                    several(given.processes, given.batches, repeats, seconds, progress),
                )
            else:
                pin(OTHER_CORES)
                with running(seconds) as bench:
                    title = "The web process's memory" if given.memory else "Receiver"
                    if given.memory:
                        text = long_run(bench.redis, *bench.targets[OURS], progress)
                    else:
                        text = compare(bench, given.batches, repeats, progress)
    except WrongRun as wrong:
        print(f"No figures: {wrong}", file=sys.stderr)
        return 1
    if not PINNED:
        text += "\nThis machine keeps no process on its core, so even ratios are rough.\n"
    text = section(title, text)
    print(text)
    if not given.quick:
        write_section(given.out, title, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
