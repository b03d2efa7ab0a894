"""What forgers cost the honest: `python bench/flood.py`. Rule: both come from one address, and every answer is checked.

Whose signature does not match is refused, and from a limit on with 429; that must not slow whoever signs. One web
process on core 0; Valkey and both loads on core 1. Light load: 4 connections that pause 4 to 12 ms.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from lib.load import Result
from lib.runs import WrongRun, check_queue, loading, run_load
from lib.servers import OTHER_CORES, ROOT, pin, spokes, valkey
from lib.tables import bar, section, table, write_section
from redis import Redis

_BATCH: Final = 10  # events of a request
_FLOODS: Final = {  # connections, and for how many ms each pauses
    "none": (0, 0.0),
    "2 connections that pause 10 ms": (2, 10.0),
    "10 connections that pause 10 ms": (10, 10.0),
    "10 connections without pause": (10, 0.0),
}


@dataclass(frozen=True, slots=True)
class Seen:
    """One run: what the honest saw, and how many forged requests a second were refused meanwhile."""

    honest: Result
    forged_s: float


@contextmanager
def flood(port: int, connections: int, pause_ms: float, seconds: float) -> Iterator[list[float]]:
    """Send forged requests while the block lasts; how many a second were refused is in what is yielded, afterwards.

    Raises:
        WrongRun: one of them was taken.
    """
    refused: list[float] = []
    options = {"batch": _BATCH, "requests": 2_000, "connections": connections, "pause_ms": pause_ms}
    with loading(port, ["--forged", "--again"], seconds=seconds, warm_up=0.5, **options) as result_of:
        yield refused
        result = result_of()
    if result.other_answers < result.sent:
        raise WrongRun(f"{result.sent - result.other_answers} forged requests were taken")
    refused.append(result.answered / result.seconds)


def measure(redis: Redis, port: int, kind: str, seconds: float) -> Seen:
    """Run light load beside a flood."""
    redis.flushall()
    connections, pause_ms = _FLOODS[kind]
    beside = flood(port, connections, pause_ms, seconds + 2) if connections else nullcontext([0.0])
    with beside as refused:
        most = int(1_000 * seconds)
        honest = run_load(port, batch=_BATCH, requests=most, seconds=seconds, connections=4, pause_ms=8, warm_up_s=1.5)
    check_queue(redis, honest.sent, _BATCH)
    return Seen(honest, refused[0])


def main() -> int:
    """Measure, print, write down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="once, 1.5 s; nothing is written down")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each run")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/bench.md")
    given = parser.parse_args()
    repeats, seconds = (1, 1.5) if given.quick else (given.repeats, given.seconds)
    pin(OTHER_CORES)
    seen: dict[str, list[Seen]] = {kind: [] for kind in _FLOODS}
    with tempfile.TemporaryDirectory(prefix="spokes-bench-") as name, valkey(Path(name)) as redis, bar() as progress:
        task = progress.add_task("flood", total=repeats * len(_FLOODS))
        with spokes(redis, Path(name)) as (port, _):
            try:
                for _ in range(repeats):
                    for kind in _FLOODS:
                        progress.update(task, description=f"forgers: {kind}")
                        seen[kind].append(measure(redis, port, kind, seconds))
                        progress.advance(task)
            except WrongRun as wrong:
                print(f"No figures: {wrong}", file=sys.stderr)
                return 1
    rows = [
        [
            kind,
            f"{median(one.forged_s for one in runs):,.0f}",
            f"{median(one.honest.p50_ms for one in runs):.1f}",
            f"{median(one.honest.p99_ms for one in runs):.1f}",
        ]
        for kind, runs in seen.items()
    ]
    text = table(["forgers", "refused a second", "honest p50, ms", "honest p99, ms"], rows)
    text = section("Forgers beside honest traffic", f"{text}\n{_BATCH} events a request.\n")
    print(text)
    if not given.quick:
        write_section(given.out, "Forgers beside honest traffic", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
