"""The door for long, and the door several times over: memory and processes. Rule: the queue is checked here too."""

import random
import tempfile
from pathlib import Path
from statistics import median
from typing import Final

from redis import Redis
from rich.progress import Progress
from runs import WARM_UP_S, WrongRun, check_queue, memory_bytes, most_requests, run_load
from servers import ALL_CORES, resident_mb, spokes, valkey
from tables import table

LONG_EVENTS: Final = 1_000_000
LONG_BATCH: Final = 10
LONG_ROUNDS: Final = 20
LONG_ROUND_S: Final = 30.0


def long_run(redis: Redis, port: int, pid: int, progress: Progress) -> str:
    """Return the table of the memory that a million events leave.

    Raises:
        WrongRun: they do not get through, or not as they were sent.
    """
    redis.flushall()
    rows = [_memory_row("the start", redis, pid)]
    a_round = LONG_EVENTS // LONG_ROUNDS
    sent = 0
    for number in progress.track(range(LONG_ROUNDS), description="a million events"):
        result = run_load(
            port, batch=LONG_BATCH, first=number * a_round, requests=a_round // LONG_BATCH, seconds=LONG_ROUND_S
        )
        sent += result.sent
        if (number + 1) % (LONG_ROUNDS // 4) == 0:
            rows.append(_memory_row(f"{sent * LONG_BATCH:,} events", redis, pid))
    check_queue(redis, sent, LONG_BATCH)
    if sent * LONG_BATCH != LONG_EVENTS:
        raise WrongRun(f"only {sent * LONG_BATCH:,} events in {LONG_ROUNDS} rounds of {LONG_ROUND_S:.0f} s")
    return table(["after", "web process, MB resident", "Valkey, MB used"], rows)


def _memory_row(when: str, redis: Redis, pid: int) -> list[str]:
    return [when, f"{resident_mb(pid):.1f}", f"{memory_bytes(redis) / 1e6:.1f}"]


def several(processes: int, batches: list[int], repeats: int, seconds: float, progress: Progress) -> str:
    """Return the table of `processes` web processes against one, all of them sharing the cores with their load."""
    rates: dict[tuple[int, int], list[float]] = {}
    bar = progress.add_task("processes", total=repeats * 2 * len(batches))
    for _ in range(repeats):
        for count in random.sample([1, processes], 2):
            with tempfile.TemporaryDirectory(prefix="spokes-bench-") as name, valkey(Path(name)) as redis:
                settings = {"WEB_CONCURRENCY": str(count)}
                with spokes(redis, Path(name), cores=ALL_CORES, **settings) as (port, _web):
                    for batch in batches:
                        redis.flushall()
                        most = most_requests(batch, seconds + WARM_UP_S) * processes
                        result = run_load(port, batch=batch, requests=most, seconds=seconds, connections=20)
                        check_queue(redis, result.sent, batch)
                        rates.setdefault((count, batch), []).append(result.answered / result.seconds)
                        progress.advance(bar)
    rows = [
        [str(batch), *(f"{median(rates[count, batch]) * batch:,.0f}" for count in (1, processes)), f"{gain:.2f}"]
        for batch in batches
        for gain in [median(b / a for a, b in zip(rates[1, batch], rates[processes, batch], strict=True))]
    ]
    head = ["events a request", "events/s, 1 process", f"events/s, {processes} processes", "x"]
    shared = "Nothing is pinned: web processes, Valkey and the load (20 connections) share the same two cores, so this "
    return f"{table(head, rows)}\n{shared}tells that several processes work together, not how far they scale."
