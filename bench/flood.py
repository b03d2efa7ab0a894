"""Latency of signed requests during a flood of forged ones: `python bench/flood.py`. Both come from one address.

Forged requests are refused, beyond a limit with 429; that must not slow down signed requests. Every response is
checked. Then strangers open 1,000 idle connections and 200 event streams, and send 200 unsigned bodies of 10 MiB a
second in parallel; a second time the bodies have a signature of the right form, so that they must be read. One web
process on core 0; Valkey and all loads on core 1. Light load: 4 connections that pause 4 to 12 ms.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that the script runs from any folder

import psutil  # type: ignore[import-untyped]  # ships no types
from redis import Redis

from bench.lib.load import LoadResult
from bench.lib.runs import InvalidRun, check_queue, run_load, running_load
from bench.lib.servers import OTHER_CORES, ROOT, pin_to_cores, redis_url, running_valkey, running_web
from bench.lib.strangers import BODIES, IDLE, STREAMS, siege
from bench.lib.tables import progress_bar, section, table, write_section
from spokes.console.accounts.policy import Role
from spokes.console.accounts.sessions import COOKIE, Sessions
from spokes.core.redis.connections import redis_client
from spokes.core.settings import Settings

_CONSOLE_KEY: Final = "a-key-of-at-least-thirty-two-characters"
_SIEGE: Final = (
    f"{IDLE:,} idle connections, {STREAMS} event streams of one account, and {BODIES} bodies of 10 MiB in parallel, "
    "each repeated every second, all from the address of the signed load."
)
_BATCH: Final = 10  # events of a request
_FLOODS: Final = {  # connections, and the pause of each in ms
    "none": (0, 0.0),
    "2 connections that pause 10 ms": (2, 10.0),
    "10 connections that pause 10 ms": (10, 10.0),
    "10 connections without pause": (10, 0.0),
}


@dataclass(frozen=True, slots=True)
class FloodResult:
    """One run: the result of the signed requests, and the forged requests refused per second."""

    signed: LoadResult
    forged_per_s: float


@contextmanager
def flood(port: int, connections: int, pause_ms: float, seconds: float) -> Iterator[list[float]]:
    """Send forged requests while the block runs; after it, the yielded list has the number refused per second.

    Raises:
        InvalidRun: one of them was accepted.
    """
    refused: list[float] = []
    options = {"batch": _BATCH, "requests": 2_000, "connections": connections, "pause_ms": pause_ms}
    with running_load(port, ["--forged", "--again"], seconds=seconds, warm_up=0.5, **options) as result_of:
        yield refused
        result = result_of()
    if result.other_responses < result.sent:
        raise InvalidRun(f"{result.sent - result.other_responses} forged requests were accepted")
    refused.append(result.answered / result.seconds)


def measure(redis: Redis, port: int, kind: str, seconds: float) -> FloodResult:
    """Run light load during a flood."""
    redis.flushall()
    connections, pause_ms = _FLOODS[kind]
    forged_load = flood(port, connections, pause_ms, seconds + 2) if connections else nullcontext([0.0])
    with forged_load as refused:
        most = int(1_000 * seconds)
        honest = run_load(port, batch=_BATCH, requests=most, seconds=seconds, connections=4, pause_ms=8, warm_up_s=1.5)
    check_queue(redis, honest.sent, _BATCH)
    return FloodResult(honest, refused[0])


def measure_siege(redis: Redis, port: int, pid: int, seconds: float) -> list[list[str]]:
    """Run light load without strangers, then with unsigned and with forged bodies; return a row for each."""
    redis.flushall()
    cookie = asyncio.run(_session_cookie(redis_url(redis)))
    forged = b"X-HubSpot-Signature-v3: " + b"A" * 43 + b"=\r\nX-HubSpot-Request-Timestamp: %d\r\n"
    rows = []
    for kind, headers in (("no strangers", None), ("unsigned bodies", b""), ("forged bodies", forged)):
        most = int(1_000 * seconds)
        header = headers % (time.time_ns() // 1_000_000) if headers else headers
        with siege(port, pid, cookie, header) if header is not None else nullcontext() as result:
            honest = run_load(
                port, batch=_BATCH, requests=most, seconds=seconds, connections=4, pause_ms=8, warm_up_s=1.5
            )
        memory = result.max_mb if result else psutil.Process(pid).memory_info().rss / 1e6
        rows.append([
            kind, f"{honest.other_responses}", f"{honest.p50_ms:.1f}", f"{honest.p99_ms:.1f}", f"{memory:.0f}",
            _counts(result.bodies) if result else "-", _counts(result.streams) if result else "-",
        ])  # fmt: skip
    return rows


def _counts(statuses: Counter[int]) -> str:
    return ", ".join(f"{status or 'closed'}: {count:,}" for status, count in sorted(statuses.items()))


async def _session_cookie(url: str) -> str:
    settings = Settings.from_env({"REDIS_URL": url, "CONSOLE_KEY": _CONSOLE_KEY})
    async with redis_client(settings) as client:
        return f"{COOKIE}={await Sessions.from_settings(client, settings).start('ada', [Role.VIEWER], None)}"


def main() -> int:
    """Measure, print the table, and write it into the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="once, 1.5 s; does not write the document")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each run")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/bench.md")
    arguments = parser.parse_args()
    repeats, seconds = (1, 1.5) if arguments.quick else (arguments.repeats, arguments.seconds)
    pin_to_cores(OTHER_CORES)
    seen: dict[str, list[FloodResult]] = {kind: [] for kind in _FLOODS}
    with (
        tempfile.TemporaryDirectory(prefix="spokes-bench-") as name,
        running_valkey(Path(name)) as redis,
        progress_bar() as progress,
    ):
        task = progress.add_task("flood", total=repeats * len(_FLOODS))
        with running_web(redis, Path(name), CONSOLE_KEY=_CONSOLE_KEY) as (port, web):
            try:
                for _ in range(repeats):
                    for kind in _FLOODS:
                        progress.update(task, description=f"forged: {kind}")
                        seen[kind].append(measure(redis, port, kind, seconds))
                        progress.advance(task)
                siege_rows = measure_siege(redis, port, web.pid, max(seconds, 4.0))
            except InvalidRun as error:
                print(f"No figures: {error}", file=sys.stderr)
                return 1
    rows = [
        [
            kind,
            f"{median(result.forged_per_s for result in runs):,.0f}",
            f"{median(result.signed.p50_ms for result in runs):.1f}",
            f"{median(result.signed.p99_ms for result in runs):.1f}",
        ]
        for kind, runs in seen.items()
    ]
    text = table(["forged requests", "refused a second", "signed p50, ms", "signed p99, ms"], rows)
    siege_text = table(
        ["strangers", "signed, not 202", "p50, ms", "p99, ms", "web process, MB at most", "bodies", "streams"],
        siege_rows,
    )
    siege_text = section("Connections, streams and bodies of strangers", f"{siege_text}\n{_SIEGE}\n")
    text = section("Forged and signed traffic", f"{text}\n{_BATCH} events a request.\n")
    print(text, siege_text, sep="\n")
    if not arguments.quick:
        write_section(arguments.out, "Connections, streams and bodies of strangers", siege_text)
        write_section(arguments.out, "Forged and signed traffic", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
