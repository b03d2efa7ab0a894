"""The door for long, and the door several times over: memory and processes. Rule: the queue is checked here too."""

import random
import tempfile
from pathlib import Path
from statistics import median
from typing import Final

from lib.runs import WARM_UP_S, WrongRun, check_queue, memory_bytes, most_requests, run_load
from lib.servers import ALL_CORES, resident_mb, spokes, valkey
from lib.tables import table
from redis import Redis
from rich.progress import Progress

LONG_EVENTS: Final = 1_000_000
LONG_BATCH: Final = 10
LONG_ROUNDS: Final = 20
LONG_ROUND_S: Final = 30.0
_MEANING: Final = (
    "Nothing is pinned: web processes, Valkey and the load (20 connections) share the same two cores, so events/s tell "
    "that several processes work together, and not how far they scale. A core-second is one of CPU time of all web "
    "processes together: where two get as much out of it as one, more of them on more cores take as many more events."
)


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
    of_a_core: dict[tuple[int, int], list[float]] = {}  # requests in a second that web processes had a core for
    bar = progress.add_task("processes", total=repeats * 2 * len(batches))
    for _ in range(repeats):
        for count in random.sample([1, processes], 2):
            with tempfile.TemporaryDirectory(prefix="spokes-bench-") as name, valkey(Path(name)) as redis:
                settings = {"WEB_CONCURRENCY": str(count)}
                with spokes(redis, Path(name), cores=ALL_CORES, **settings) as (port, web):
                    for batch in batches:
                        redis.flushall()
                        most = most_requests(batch, seconds + WARM_UP_S) * processes
                        result = run_load(
                            port, batch=batch, requests=most, seconds=seconds, connections=20, watch=[web.pid]
                        )
                        check_queue(redis, result.sent, batch)
                        rates.setdefault((count, batch), []).append(result.answered / result.seconds)
                        of_a_core.setdefault((count, batch), []).append(result.answered / result.cpu[0])
                        progress.advance(bar)
    rows = [
        [str(batch), *_compared(rates, batch, processes), *_compared(of_a_core, batch, processes)] for batch in batches
    ]
    counts = [f"{count} process{'es' if count > 1 else ''}" for count in (1, processes)]
    head = ["events a request", *(f"{unit}, {count}" for unit in ("events/s", "events/core-s") for count in counts)]
    head.insert(3, "x")
    return f"{table([*head, 'x'], rows)}\n{_MEANING}"


def _compared(measured: dict[tuple[int, int], list[float]], batch: int, processes: int) -> list[str]:
    """Events with one and with several processes, and their ratio."""
    one, several_ = measured[1, batch], measured[processes, batch]
    gain = median(b / a for a, b in zip(one, several_, strict=True))
    return [f"{median(one) * batch:,.0f}", f"{median(several_) * batch:,.0f}", f"{gain:.2f}"]
