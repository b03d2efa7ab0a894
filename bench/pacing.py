"""What the pause between batches does to the wait of an event, simulated: `python bench/pacing.py`.

Each event is read and then written; reads and writes have a queue in each worker and share 190 calls in ten seconds.
Single events arrive evenly for a minute of simulated time, to one worker and to four. Without a pause every event has
calls of its own until the limit is used up. No process is started.
"""

import argparse
import sys
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that the script runs from any folder

from bench.lib.paced_calls import PacedQueues, PacedResult, simulate
from bench.lib.plots import line_chart
from bench.lib.servers import ROOT

_RATES: Final = (1.0, 2.0, 5.0, 8.0, 10.0, 12.0, 20.0, 50.0, 100.0, 200.0, 500.0)
_LEAST_MS: Final = 1.0  # the chart's axes are logarithmic


def results(*, is_paced: bool, workers: int) -> list[tuple[float, PacedResult]]:
    """Simulate every rate."""
    queues = PacedQueues(limit=190, workers=workers, is_paced=is_paced)
    return [(rate, simulate(queues, rate=rate, seconds=60)) for rate in _RATES]


def main() -> int:
    """Print the waits, and draw them with --write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the chart into docs/images")
    arguments = parser.parse_args()
    lines = {}
    for name, is_paced, workers in (("one worker", True, 1), ("four", True, 4), ("without a pause", False, 1)):
        print(f"{name}: events/s, wait p50 and p99 in ms, calls in a minute")
        for rate, result in (runs := results(is_paced=is_paced, workers=workers)):
            waits = f"{1000 * result.median_wait_s:9,.0f} {1000 * result.p99_wait_s:9,.0f}"
            print(f"{rate:6g} {waits} {len(result.calls):7,}")
        lines[f"p99, {name}"] = [(rate, max(1000 * result.p99_wait_s, _LEAST_MS)) for rate, result in runs]
        lines[f"p50, {name}"] = [(rate, max(1000 * result.median_wait_s, _LEAST_MS)) for rate, result in runs]
    if arguments.write:
        title = "From a change to its write, 190 calls in 10 s, a read and a write an event"
        picture = line_chart(
            title, lines, x_label="events a second", y_label="ms", command="python bench/pacing.py --write"
        )
        (ROOT / "docs/images/pacing.svg").write_text(picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
