"""From HubSpot's change to the write and the record: `python bench/end_to_end.py`.

Web process, workers with the archiver, Valkey, a small HubSpot and the load share this machine's cores. The default
contacts handler reads each contact and writes its phone number back. Latencies in ms are counted from the time at which
a request was due: to the 202, the start of the handler, the arrival of the write at HubSpot, the row in SQL. Each load
runs `--repeats` times, and the run with the median write latency is shown. In a burst all requests are due at once, and
the rival (bench/baselines/rival.py) does the same work in the same run.
"""

import argparse
import asyncio
import sqlite3
import sys
import tempfile
import time
import urllib.request
from collections.abc import Coroutine, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that the script runs from any folder

import orjson
from redis import Redis
from rich.progress import Progress

from bench.lib.due_load import object_id_of
from bench.lib.end_to_end_report import (
    POSTGRESQL,
    Load,
    Measured,
    burst_table,
    latency_chart,
    latency_table,
    most_in_window,
    readme_text,
    used_share,
)
from bench.lib.row_watch import RowWatch
from bench.lib.runs import InvalidRun, process_id
from bench.lib.servers import (
    ALL_CORES,
    ROOT,
    await_ready,
    cpu_seconds,
    free_port,
    redis_url,
    running_postgresql,
    running_process,
    running_valkey,
    running_web,
)
from bench.lib.tables import progress_bar, write_illustrated, write_section
from bench.lib.traffic import environment
from spokes.core.settings import Settings

_GIVE_UP_S: Final = 180.0  # after the last request was due
_POLL_S: Final = 0.1
_IMPORT_BATCH: Final = 100
_FIRST_IMPORTED: Final = 10_000_000  # number of the first event of an import, far beyond those of the load


_EXPLANATION: Final = """
From the time at which a request was due, p50 / p99 in ms: to the 202, the start of the handler, the arrival of the
write at HubSpot and the row in SQL. Web process, workers, Valkey, HubSpot and the load share two cores. `used` is the
share of HubSpot's limit from the first window on. In a burst, all requests are due at once.
"""
LOADS: Final = (
    Load(50, 1, 20), Load(50, 1, 20, workers=2), Load(50, 1, 20, workers=4), Load(500, 1, 20), Load(800, 1, 20),
    Load(500, 100, 20), Load(500, 1, 30, latency_ms=500), Load(500, 1, 20, imports=300),
    Load(500, 1, 20, store=POSTGRESQL),
    Load(500, 1, 10, limit=0), Load(2000, 100, 10, limit=0),
)  # fmt: skip
BURSTS: Final = (Load(0, 1, 0, limit=0, events=15_000), Load(0, 100, 0, limit=0, events=15_000))


async def measure(load: Load, folder: Path, *, rival: bool = False) -> Measured:
    """Run one load against processes of its own.

    Raises:
        InvalidRun: an answer was not 202, or a write or row is missing.
    """
    with ExitStack() as stack:
        database = stack.enter_context(running_postgresql()) if load.store == POSTGRESQL else ""
        redis = stack.enter_context(running_valkey(folder))
        hubspot_port = free_port()
        command = ["bench/hubspots/fake_hubspot.py", "--port", str(hubspot_port), "--limit", str(load.limit)]
        command += ["--latency-ms", str(load.latency_ms)]
        hubspot = stack.enter_context(running_process(command, {}, folder / "hubspot.log", cores=ALL_CORES))
        await_ready(hubspot, f"http://127.0.0.1:{hubspot_port}/measured")
        target = Target(redis, folder, f"http://127.0.0.1:{hubspot_port}", database)
        processes = target.start_rival(stack) if rival else target.start_spokes(stack, load)
        processes |= {"Valkey": process_id(redis)}
        return await target.run(load, processes)


@dataclass(slots=True)
class Target:
    """One set of processes and where their traces are."""

    redis: Redis
    folder: Path
    hubspot_url: str
    database: str
    port: int = 0
    is_rival: bool = False

    def start_spokes(self, stack: ExitStack, load: Load) -> dict[str, int]:
        """Start web process and workers; return their process ids."""
        self.port, web = stack.enter_context(
            running_web(self.redis, self.folder, cores=ALL_CORES, LOG_LEVEL="INFO", **self._database_setting())
        )
        pids = {"web": web.pid}
        # A burst is compared with a rival that does not note each start either: a system call an event.
        handlers = "bench.handlers.timed_contacts" if load.rate else "handlers"
        for number in range(load.workers):
            settings = {
                **environment(0, redis_url(self.redis), str(self.folder)), "HUBSPOT_API_URL": self.hubspot_url,
                "HUBSPOT_ACCESS_TOKEN": "no-token-needed", "HANDLERS": handlers,
                "BENCH_STARTS": str(self.folder / "starts"), "LOG_LEVEL": "INFO", **self._database_setting(),
                "HUBSPOT_RATE_LIMIT": str(load.limit or 100_000),
            }  # fmt: skip
            log = self.folder / f"worker-{number}.log"
            pids[f"worker {number}"] = stack.enter_context(
                running_process(["-m", "workers"], settings, log, cores=ALL_CORES)
            ).pid
            _await_text(log, "worker_ready")
        return pids

    def start_rival(self, stack: ExitStack) -> dict[str, int]:
        """Start the rival's web process and worker; return their process ids."""
        self.port, self.is_rival = free_port(), True
        settings = {
            "PORT": str(self.port), "REDIS_URL": redis_url(self.redis), "HUBSPOT_API_URL": self.hubspot_url,
            "BENCH_ROWS": str(self.folder / "rows.sqlite"),
        }  # fmt: skip
        log = self.folder / "rival.log"
        script = "bench/baselines/rival.py"
        web = stack.enter_context(running_process([script, "web"], settings, log, cores=ALL_CORES))
        worker = stack.enter_context(running_process([script, "worker"], settings, log, cores=ALL_CORES))
        await_ready(web, f"http://127.0.0.1:{self.port}/readyz")
        return {"web": web.pid, "worker 0": worker.pid}

    async def run(self, load: Load, pids: dict[str, int]) -> Measured:
        """Send the load, wait for the last row, and gather what was measured."""
        arguments = [
            str(ROOT / "bench/lib/due_load.py"),
            "--port",
            str(self.port),
            "--events",
            str(load.number_of_events),
        ]
        arguments += ["--batch", str(load.batch), "--rate", str(load.rate)]
        async with RowWatch.watching(self._address()) as watch:
            await asyncio.sleep(0.5)
            cpu = {name: cpu_seconds(pid) for name, pid in pids.items()}
            sent, *_ = await asyncio.gather(self._send(arguments), *self._imports(load))
            rows = await self._wait_for_rows(load, watch)
            spent = {name: cpu_seconds(pid) - cpu[name] for name, pid in pids.items()}
        return self._gather(load, sent, rows, spent)

    async def _send(self, arguments: Sequence[str]) -> dict[str, Any]:
        """Run one load generator to its end; return what it prints."""
        with tempfile.TemporaryFile() as out:  # a pipe lost what exceeded two of asyncio's buffers on a busy machine
            sender = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=out, cwd=ROOT)
            if await sender.wait():
                raise InvalidRun(f"the load generator ended with exit code {sender.returncode}")
            out.seek(0)
            sent: dict[str, Any] = orjson.loads(out.read())
        if sent["other_responses"]:
            raise InvalidRun(f"{sent['other_responses']} requests were not answered 202")
        return sent

    def _imports(self, load: Load) -> list[Coroutine[Any, Any, dict[str, Any]]]:
        """Return the load generator of the import beside a load, if there is one."""
        count = round(load.imports * load.seconds) // _IMPORT_BATCH * _IMPORT_BATCH
        arguments = [str(ROOT / "bench/lib/due_load.py"), "--port", str(self.port), "--events", str(count)]
        arguments += ["--batch", str(_IMPORT_BATCH), "--rate", str(load.imports), "--first", str(_FIRST_IMPORTED)]
        return [self._send([*arguments, "--source", "IMPORT"])] if count else []

    async def _wait_for_rows(self, load: Load, watch: RowWatch) -> dict[str, float]:
        deadline = time.monotonic() + _GIVE_UP_S
        wanted = {str(object_id_of(number)) for number in range(load.number_of_events)}
        while True:
            rows = self._rival_rows() if self.is_rival else await watch.settled()
            rows = {object_id: at for object_id, at in rows.items() if object_id in wanted}
            if len(rows) >= load.number_of_events:
                return rows
            if time.monotonic() > deadline:
                raise InvalidRun(f"{len(rows)} of {load.number_of_events} events have a row; logs in {self.folder}")
            await asyncio.sleep(_POLL_S if load.rate else 1.0)

    def _gather(self, load: Load, sent: dict[str, Any], rows: dict[str, float], spent: dict[str, float]) -> Measured:
        due = {str(object_id_of(n)): sent["due"][n // load.batch] for n in range(load.number_of_events)}
        with urllib.request.urlopen(f"{self.hubspot_url}/measured", timeout=30) as response:  # noqa: S310 - our own URL
            hubspot = orjson.loads(response.read())
        written: dict[str, float] = {}
        for object_id, at in hubspot["written"]:
            written.setdefault(object_id, at)
        if missing := due.keys() - written.keys():
            raise InvalidRun(f"{len(missing)} contacts were not written")
        starts: dict[str, float] = {}
        if load.rate:
            for line in (self.folder / "starts").read_text().splitlines():
                object_id, _, at = line.partition(" ")
                starts.setdefault(object_id, float(at))
        first = min(sent["due"])
        latencies = {"202": sorted(1000 * each for each in sent["latencies"])}
        for name, times in (("handler", starts), ("write", written), ("SQL", rows)):
            latencies[name] = sorted(
                1000 * (at - due[object_id]) for object_id, at in times.items() if object_id in due
            )
        latencies["SQL after the write"] = sorted(1000 * (at - written[object_id]) for object_id, at in rows.items())
        cpu_us = {name: 1e6 * seconds / load.number_of_events for name, seconds in spent.items()}
        calls: list[float] = hubspot["calls"]
        share = used_share(calls, first + 10.0, max(sent["due"]), load.limit)
        return Measured(
            load, max(rows.values()) - first, latencies, cpu_us, len(calls), most_in_window(calls), share,
            hubspot["rate_limited"],
        )  # fmt: skip

    def _rival_rows(self) -> dict[str, float]:
        with closing(sqlite3.connect(self.folder / "rows.sqlite")) as connection:
            return dict(connection.execute("SELECT object_id, at FROM done"))

    def _address(self) -> str:
        return Settings.from_env(self._database_setting() or {"DATA_DIR": str(self.folder)}).database_address

    def _database_setting(self) -> dict[str, str]:
        return {"DATABASE_URL": self.database} if self.database else {}


def _await_text(log: Path, text: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if log.exists() and text in log.read_text():
            return
        time.sleep(0.05)
    raise InvalidRun(f"no {text} in the log: {log.read_text()[-2000:]}")


async def measure_all(loads: Sequence[Load], repeats: int, folder: Path, progress: Progress) -> list[Measured]:
    """Return the run with the median write latency of each load."""
    task = progress.add_task("loads", total=len(loads) * repeats)
    medians = []
    for load in loads:
        runs = []
        for _ in range(repeats):
            runs.append(await measure(load, Path(tempfile.mkdtemp(dir=folder))))
            progress.advance(task)
        medians.append(sorted(runs, key=lambda run: run.write_p50)[repeats // 2])
    return medians


async def measure_bursts(repeats: int, folder: Path, progress: Progress) -> list[tuple[Measured, Measured]]:
    """Return, for each burst, the pair of runs of Spokes and the rival with the median ratio."""
    task = progress.add_task("bursts", total=len(BURSTS) * repeats * 2)
    medians = []
    for load in BURSTS:
        pairs = []
        for _ in range(repeats):
            ours = await measure(load, Path(tempfile.mkdtemp(dir=folder)))
            progress.advance(task)
            theirs = await measure(load, Path(tempfile.mkdtemp(dir=folder)), rival=True)
            progress.advance(task)
            pairs.append((ours, theirs))
        medians.append(sorted(pairs, key=lambda pair: pair[0].rate / pair[1].rate)[repeats // 2])
    return medians


def main() -> int:
    """Measure, print, and write into docs/bench.md with --write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="only loads whose words contain this text, such as 50/s")
    parser.add_argument("--seconds", type=float, default=0.0, help="of each load, instead of its own")
    parser.add_argument("--no-bursts", action="store_true", help="leave the bursts out")
    parser.add_argument(
        "--write", action="store_true", help="write tables and chart into docs/bench.md, and the README's first figures"
    )
    arguments = parser.parse_args()
    loads = [load for load in LOADS if arguments.only in str(load)]
    if arguments.seconds:
        loads = [load._replace(seconds=arguments.seconds) for load in loads]
    if arguments.write and (arguments.only or arguments.no_bursts):
        parser.error("--write needs all loads and the bursts")
    with tempfile.TemporaryDirectory(prefix="spokes-bench-") as folder, progress_bar() as progress:
        runs = asyncio.run(measure_all(loads, arguments.repeats, Path(folder), progress))
        if runs:
            print(latency_table(runs), flush=True)
        pairs = []
        if not arguments.no_bursts:
            pairs = asyncio.run(measure_bursts(arguments.repeats, Path(folder), progress))
            print(burst_table(pairs), flush=True)
    if arguments.write:
        write(runs, pairs)
    return 0


def write(runs: Sequence[Measured], pairs: Sequence[tuple[Measured, Measured]]) -> None:
    """Write the section and the chart of docs/bench.md, and the README's first figures."""
    text = f"{_EXPLANATION}\n{{picture}}\n\n{latency_table(runs)}\n{burst_table(pairs)}"
    write_illustrated(ROOT / "docs", "Claim: from change to write", "bench-end-to-end.svg", latency_chart(runs), text)
    write_section(ROOT / "README.md", "From change to write", readme_text(runs, pairs))


if __name__ == "__main__":
    sys.exit(main())
