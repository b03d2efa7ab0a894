"""Long runs of the web process (memory), and several web processes. The queue is checked after each run."""

import random
import tempfile
from pathlib import Path
from statistics import median
from typing import Final

from redis import Redis
from rich.progress import Progress

from bench.lib.runs import WARM_UP_S, InvalidRun, check_queue, max_requests, memory_bytes, run_load
from bench.lib.servers import ALL_CORES, resident_mb, running_valkey, running_web
from bench.lib.tables import table

LONG_EVENTS: Final = 1_000_000
LONG_BATCH: Final = 10
LONG_ROUNDS: Final = 20
LONG_ROUND_S: Final = 30.0
_NOTE: Final = (
    "No process is pinned: web processes, Valkey and the load (20 connections) share the same two cores, so events/s "
    "show that several processes work together, not how far they scale. A core-second is one second of CPU time of all "
    "web processes: if two handle as many events per core-second as one, throughput grows with processes and cores."
)


def measure_memory(redis: Redis, port: int, pid: int, progress: Progress) -> str:
    """Return the table of memory use over a million events.

    Raises:
        InvalidRun: the queue does not contain the events that were sent, or sending took too long.
    """
    redis.flushall()
    rows = [_memory_row("the start", redis, pid)]
    events_per_round = LONG_EVENTS // LONG_ROUNDS
    sent = 0
    for number in progress.track(range(LONG_ROUNDS), description="a million events"):
        result = run_load(
            port,
            batch=LONG_BATCH,
            first=number * events_per_round,
            requests=events_per_round // LONG_BATCH,
            seconds=LONG_ROUND_S,
        )
        sent += result.sent
        if (number + 1) % (LONG_ROUNDS // 4) == 0:
            rows.append(_memory_row(f"{sent * LONG_BATCH:,} events", redis, pid))
    check_queue(redis, sent, LONG_BATCH)
    if sent * LONG_BATCH != LONG_EVENTS:
        raise InvalidRun(f"only {sent * LONG_BATCH:,} events in {LONG_ROUNDS} rounds of {LONG_ROUND_S:.0f} s")
    return table(["after", "web process, MB resident", "Valkey, MB used"], rows)


def _memory_row(when: str, redis: Redis, pid: int) -> list[str]:
    return [when, f"{resident_mb(pid):.1f}", f"{memory_bytes(redis) / 1e6:.1f}"]


def compare_processes(processes: int, batches: list[int], repeats: int, seconds: float, progress: Progress) -> str:
    """Return the table that compares `processes` web processes with one; all share the cores with their load."""
    rates: dict[tuple[int, int], list[float]] = {}
    of_a_core: dict[tuple[int, int], list[float]] = {}  # requests per second of CPU time of the web processes
    bar = progress.add_task("processes", total=repeats * 2 * len(batches))
    for _ in range(repeats):
        for count in random.sample([1, processes], 2):
            with tempfile.TemporaryDirectory(prefix="spokes-bench-") as name, running_valkey(Path(name)) as redis:
                settings = {"WEB_CONCURRENCY": str(count)}
                with running_web(redis, Path(name), cores=ALL_CORES, **settings) as (port, web):
                    for batch in batches:
                        redis.flushall()
                        most = max_requests(batch, seconds + WARM_UP_S) * processes
                        result = run_load(
                            port, batch=batch, requests=most, seconds=seconds, connections=20, watch=[web.pid]
                        )
                        check_queue(redis, result.sent, batch)
                        rates.setdefault((count, batch), []).append(result.answered / result.seconds)
                        of_a_core.setdefault((count, batch), []).append(result.answered / result.cpu[0])
                        progress.advance(bar)
    rows = [
        [str(batch), *_comparison_cells(rates, batch, processes), *_comparison_cells(of_a_core, batch, processes)]
        for batch in batches
    ]
    counts = [f"{count} process{'es' if count > 1 else ''}" for count in (1, processes)]
    head = ["events a request", *(f"{unit}, {count}" for unit in ("events/s", "events/core-s") for count in counts)]
    head.insert(3, "x")
    return f"{table([*head, 'x'], rows)}\n{_NOTE}"


def _comparison_cells(measured: dict[tuple[int, int], list[float]], batch: int, processes: int) -> list[str]:
    """Return the events with one and with several processes, and their ratio."""
    single, several = measured[1, batch], measured[processes, batch]
    gain = median(b / a for a, b in zip(single, several, strict=True))
    return [f"{median(single) * batch:,.0f}", f"{median(several) * batch:,.0f}", f"{gain:.2f}"]
