"""Throughput of the web process, compared with its ceilings in one run: `python bench/receiver.py`.

One web process on core 0; Valkey, the load and this script on core 1. Each request is signed and distinct, and every
response is checked; after each run the queue must contain exactly the wanted events of the acknowledged requests.
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

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that the script runs from any folder

from redis import Redis
from rich.progress import Progress

from bench.lib.runs import WARM_UP_S, InvalidRun, check_queue, max_requests, memory_bytes, process_id, run_load
from bench.lib.scale import compare_processes, measure_memory
from bench.lib.servers import (
    OTHER_CORES,
    PINNED,
    ROOT,
    await_ready,
    free_port,
    pin_to_cores,
    resident_mb,
    running_process,
    running_valkey,
    running_web,
)  # fmt: skip
from bench.lib.tables import Cell, comparison, median_figure, progress_bar, redis_table, section, write_section

OURS: Final = "Spokes"
BARE: Final = "aiohttp, bare"
CEILING: Final = "aiohttp, verify + parse + filter"
NAMES: Final = (BARE, CEILING, OURS)


@dataclass(frozen=True, slots=True)
class RunningTargets:
    """The running servers, and the seconds of each run."""

    redis: Redis
    targets: dict[str, tuple[int, int]]  # name -> port, process id
    seconds: float


@contextmanager
def running(seconds: float) -> Iterator[RunningTargets]:
    """Run Valkey, Spokes and the ceilings while the block runs."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="spokes-bench-")))
        redis = stack.enter_context(running_valkey(folder))
        port, web = stack.enter_context(running_web(redis, folder))
        targets = {OURS: (port, web.pid)}
        for name, handler in ((BARE, "bare"), (CEILING, "verified")):
            port = free_port()
            command = [str(ROOT / "bench/baselines/ceilings.py"), handler, "--port", str(port)]
            server = stack.enter_context(running_process(command, {}, folder / "ceilings.log"))
            await_ready(server, f"http://127.0.0.1:{port}/readyz")
            targets[name] = (port, server.pid)
        yield RunningTargets(redis, targets, seconds)


def measure(bench: RunningTargets, name: str, batch: int, repeat: int) -> Cell:
    """Run one target under full load, then under light load."""
    port, pid = bench.targets[name]
    redis, is_spokes = bench.redis, name == OURS
    redis.flushall()
    before = memory_bytes(redis)
    most = max_requests(batch, bench.seconds + WARM_UP_S)
    watch = (pid, process_id(redis))
    full = run_load(port, batch=batch, requests=most, seconds=bench.seconds, watch=watch, repeat=not is_spokes)
    admitted = check_queue(redis, full.sent, batch) if is_spokes else 0
    redis_memory = memory_bytes(redis) - before
    redis.flushall()
    few = int(1000 * bench.seconds)
    light = run_load(port, batch=batch, requests=few, seconds=bench.seconds, connections=4, pause_ms=8)
    if is_spokes:
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
        redis_bytes=redis_memory / admitted if admitted else 0.0,
        redis_cpu_ms=redis_cpu / full.answered / batch * 100_000,
    )


def compare(bench: RunningTargets, batches: list[int], repeats: int, progress: Progress) -> str:
    """Return the tables that compare Spokes with its ceilings."""
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
        f"x: ratio to {CEILING}. Both ceilings run on uvloop, store nothing, and may receive the same request twice. "
        "Light load: 4 connections that pause 4 to 12 ms; all other figures: 10 connections without pause.\n"
    )
    memory = f"Spokes' resident memory: {started_with:.0f} MB at the start, {ended_with:.0f} MB at the end.\n"
    return "\n".join([comparison(cells, NAMES, CEILING), note, redis_table(cells, OURS), memory, bottleneck(cells)])


def bottleneck(cells: list[Cell]) -> str:
    """Return a sentence on whether the load generator or the bare server limited the rate."""
    sentences = []
    for batch in sorted({cell.batch for cell in cells}):
        server = median_figure(cells, BARE, batch, lambda cell: cell.server_busy)
        load = median_figure(cells, BARE, batch, lambda cell: cell.load_busy)
        shares = f"server {server:.2f} busy, load generator {load:.2f}"
        sentences.append(f"at {batch} a request {_verdict(server, load)} ({shares})")
    return f"With the bare handler: {'; '.join(sentences)}."


def _verdict(server: float, load: float) -> str:
    """Return which of the two limited the rate, from the share of a core that each used."""
    if server > 0.9:
        return "the server limited the rate"
    if load > 0.8:
        return "the load generator limited the rate, so the bare figure is its maximum"
    return "neither was busy, so other processes of this machine limited the rate"


def main() -> int:
    """Measure, print the result, and write it into the document unless --quick."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="1 x 1.5 s instead of 3 x 3 s; does not write the document"
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 10, 100], help="events in a request")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run")
    parser.add_argument("--memory", action="store_true", help="instead: memory after 1,000,000 events")
    parser.add_argument(
        "--processes", type=int, default=1, help="instead: compare this number of web processes with one"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "docs/bench.md")
    arguments = parser.parse_args()
    repeats, seconds = (1, 1.5) if arguments.quick else (arguments.repeats, arguments.seconds)
    try:
        with progress_bar() as progress:
            if arguments.processes > 1:
                title, text = (
                    "Several web processes",
                    compare_processes(arguments.processes, arguments.batches, repeats, seconds, progress),
                )
            else:
                pin_to_cores(OTHER_CORES)
                with running(seconds) as bench:
                    title = "The web process's memory" if arguments.memory else "Receiver"
                    if arguments.memory:
                        text = measure_memory(bench.redis, *bench.targets[OURS], progress)
                    else:
                        text = compare(bench, arguments.batches, repeats, progress)
    except InvalidRun as error:
        print(f"No figures: {error}", file=sys.stderr)
        return 1
    if not PINNED:
        text += "\nThis machine cannot pin processes to cores, so even ratios are rough.\n"
    text = section(title, text)
    print(text)
    if not arguments.quick:
        write_section(arguments.out, title, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
