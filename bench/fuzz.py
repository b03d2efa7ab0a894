"""Hostile traffic against a real web process and a real Valkey: `python bench/fuzz.py`.

It checks that no response is a 5xx except 503, and no 503 is caused by an error; that no request hangs; that every
signed event among the hostile ones is queued, and no unsigned one; that the process keeps running, its log has no
error, and its memory does not grow.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that the script runs from any folder

import orjson
import uvloop
from redis import Redis
from rich.progress import Progress, TaskID

from bench.fuzzing.bodies import FORGED_OBJECT
from bench.fuzzing.cases import build_case
from bench.fuzzing.parts import Case
from bench.fuzzing.player import Player, PlayResult
from bench.lib.runs import queued_objects
from bench.lib.servers import ALL_CORES, resident_mb, running_valkey, running_web
from bench.lib.tables import progress_bar, table
from bench.lib.traffic import FIRST_OBJECT

_CASES_PER_CHECK: Final = 2_000  # cases between two checks of queue, log and memory
_PLAYERS: Final = 48
_WARM_UP_SHARE: Final = 0.2  # of the checks, before memory is compared
_MAX_GROWTH_MB: Final = 40.0
_MAX_VIOLATIONS: Final = 10  # violations at which the run stops
_SERVER_ERROR: Final = 500
_UNAVAILABLE: Final = 503  # Valkey was too slow; for any other cause the log has an error
_EXPECTED_ALERTS: Final = frozenset({"elements_quarantined", "signed_request_unreadable"})
_TRIES: Final = 5
_SETTINGS: Final = {"BODY_TIMEOUT_S": "2", "MAX_BODY_BYTES": "300000", "LOG_FORMAT": "json"}


@dataclass
class FuzzReport:
    """Responses, memory and violations of a run."""

    statuses: Counter[tuple[str, str]] = field(default_factory=Counter)  # (kind, status) -> responses
    violations: list[str] = field(default_factory=list)
    expected: dict[int, int] = field(default_factory=dict)  # objects that must be queued -> case, since the last check
    memory_mb: list[float] = field(default_factory=list)


def response_fault(played: Case, seen: PlayResult) -> str | None:
    """Return what is wrong with the responses to a case, or None."""
    if seen.hung:
        return f"no response after {len(seen.statuses)} of {played.responses}"
    if wrong := [status for status in seen.statuses if status >= _SERVER_ERROR and status != _UNAVAILABLE]:
        return f"answered {wrong[0]}"
    if played.admitted and seen.statuses != [202] * played.responses:
        return f"valid, but answered {seen.statuses}"
    return None


def log_faults(lines: Iterable[bytes]) -> list[str]:
    """Return the log lines with level error or critical, except alerts about requests, and those that are no JSON."""
    faults = []
    for line in lines:
        try:
            fields = orjson.loads(line)
            is_fault = fields["level"] in {"error", "critical"} and fields["event"] not in _EXPECTED_ALERTS
        except (orjson.JSONDecodeError, KeyError, TypeError):
            is_fault = True
        if is_fault:
            faults.append(line.decode(errors="replace"))
    return faults


def queue_faults(queued: set[int], expected: dict[int, int]) -> list[str]:
    """Return what is wrong with the queued objects, compared with the expected ones (object -> case)."""
    missing = sorted({number for object_id, number in expected.items() if object_id not in queued})
    faults = [f"case {number}: acknowledged, but not queued" for number in missing]
    forged = [object_id for object_id in queued if FORGED_OBJECT <= object_id < FIRST_OBJECT]
    return faults + [f"object {object_id}: queued without a valid signature" for object_id in forged]


class FuzzRun:
    """One run against one web process."""

    def __init__(self, redis: Redis, port: int, pid: int, log: Path, seed: int) -> None:
        self.report = FuzzReport()
        self._redis, self._port, self._pid, self._log, self._seed = redis, port, pid, log, seed
        self._log_offset = 0

    async def run(self, numbers: list[int], progress: Progress, players: int) -> None:
        """Play the cases; check queue, log and memory after every `_CASES_PER_CHECK`."""
        senders = [Player(self._port) for _ in range(players)]
        task = progress.add_task("hostile requests", total=len(numbers))
        for start in range(0, len(numbers), _CASES_PER_CHECK):
            left = iter(numbers[start : start + _CASES_PER_CHECK])
            await asyncio.gather(*(self._play_cases(sender, left, progress, task) for sender in senders))
            self._check(f"cases {numbers[start]} and after")
            if len(self.report.violations) >= _MAX_VIOLATIONS:
                break
        for sender in senders:
            sender.close()
        self._check_memory()

    async def _play_cases(self, sender: Player, left: Iterable[int], progress: Progress, task: TaskID) -> None:
        for number in left:
            played = build_case(self._seed, number, time.time_ns() // 1_000_000)
            try:
                seen = await sender.play(number, played)
                for _ in range(_TRIES):
                    if not played.admitted or _UNAVAILABLE not in seen.statuses:
                        break
                    seen = await sender.play(number, played)  # HubSpot retries too
            except OSError as error:
                self.report.violations.append(f"case {number}: no connection ({type(error).__name__})")
                return
            for status in [str(status) for status in seen.statuses] or ["no answer"]:
                self.report.statuses[played.kind, status] += 1
            if fault := response_fault(played, seen):
                history = " ".join(map(str, sender.history or [number]))
                self.report.violations.append(f"{played.kind}: {fault}; --seed {self._seed} --only {history}")
            else:
                self.report.expected |= dict.fromkeys(played.admitted, number)
            progress.advance(task)

    def _check(self, where: str) -> None:
        report = self.report
        with self._log.open("rb") as log:
            log.seek(self._log_offset)
            lines = log.readlines()
            self._log_offset = log.tell()
        report.violations += [f"{where}: log line {line.strip()}" for line in log_faults(lines)]
        report.violations += queue_faults(set(queued_objects(self._redis)), report.expected)
        report.expected.clear()
        self._redis.flushall()
        report.memory_mb.append(resident_mb(self._pid))

    def _check_memory(self) -> None:
        memory = self.report.memory_mb
        warm = max(memory[: max(1, int(len(memory) * _WARM_UP_SHARE))])
        if memory[-1] > warm + _MAX_GROWTH_MB:
            self.report.violations.append(f"resident memory grew from {warm:.0f} to {memory[-1]:.0f} MB")


def summary(report: FuzzReport) -> str:
    """Return a table of the responses to each kind of case."""
    rows = []
    for kind in sorted({kind for kind, _ in report.statuses}):
        counts = sorted((status, count) for (name, status), count in report.statuses.items() if name == kind)
        rows.append([kind, ", ".join(f"{status}: {count:,}" for status, count in counts)])
    return table(["kind", "responses"], rows)


def main() -> int:
    """Play the cases, print the result, and return 1 if there are violations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000, help="cases; some are several requests")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, nargs="+", help="numbers of cases to play in order on one connection")
    arguments = parser.parse_args()
    numbers = arguments.only or list(range(arguments.requests))
    print(f"seed {arguments.seed}, {len(numbers):,} cases", flush=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="spokes-fuzz-")))
        redis = stack.enter_context(running_valkey(folder))
        port, web = stack.enter_context(running_web(redis, folder, cores=ALL_CORES, **_SETTINGS))
        progress = stack.enter_context(progress_bar())
        fuzz = FuzzRun(redis, port, web.pid, folder / "web.log", arguments.seed)
        uvloop.run(fuzz.run(numbers, progress, 1 if arguments.only else _PLAYERS))
        if web.poll() is not None:
            fuzz.report.violations.append(f"the web process ended with {web.returncode}")
    report = fuzz.report
    print(summary(report))
    print(f"resident memory at each check, MB: {' '.join(f'{value:.0f}' for value in report.memory_mb)}")
    for violation in report.violations[:_MAX_VIOLATIONS]:
        print(f"VIOLATION {violation}")
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
