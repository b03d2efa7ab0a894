"""Hostile traffic against a real web process and a real Valkey: `python bench/fuzz.py`. Rule: what must hold, holds.

No answer is a 5xx but 503, and no 503 is an accident; nothing hangs; every good event sent in between is queued, and
nothing that nobody has signed; the process lives, its log has no error, its memory stays where it was.
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

import orjson
import uvloop
from fuzzing.bodies import FORGED_OBJECT
from fuzzing.cases import case
from fuzzing.parts import Case
from fuzzing.player import Player, Seen
from lib.runs import queued_objects
from lib.servers import ALL_CORES, resident_mb, spokes, valkey
from lib.tables import bar, table
from lib.traffic import FIRST_OBJECT
from redis import Redis
from rich.progress import Progress, TaskID

_ROUND: Final = 2_000  # cases between two looks at queue, log and memory
_PLAYERS: Final = 48
_WARM_UP_SHARE: Final = 0.2  # of the rounds, in which memory may grow as it likes
_MAY_GROW_MB: Final = 40.0
_ENOUGH: Final = 10  # violations, after which nothing more is learned
_SERVER_ERROR: Final = 500
_COME_AGAIN: Final = 503  # Valkey was too slow; of any other reason the log has an error
_TRIES: Final = 5
_SETTINGS: Final = {"BODY_TIMEOUT_S": "2", "MAX_BODY_BYTES": "300000", "LOG_FORMAT": "json"}


@dataclass
class Report:
    """What a run saw, and what should not have been."""

    statuses: Counter[tuple[str, str]] = field(default_factory=Counter)  # (kind, status) -> answers
    violations: list[str] = field(default_factory=list)
    owed: dict[int, int] = field(default_factory=dict)  # object -> case, since the last look
    memory_mb: list[float] = field(default_factory=list)


def judge(played: Case, seen: Seen) -> str | None:
    """Return what is wrong with the answers to a case, or None."""
    if seen.hung:
        return f"hangs after {len(seen.statuses)} of {played.answers} answers"
    if wrong := [status for status in seen.statuses if status >= _SERVER_ERROR and status != _COME_AGAIN]:
        return f"answered {wrong[0]}"
    if played.admitted and seen.statuses != [202] * played.answers:
        return f"good, but answered {seen.statuses}"
    return None


def log_faults(lines: Iterable[bytes]) -> list[str]:
    """Return the lines of a log that tell of an error, or of nothing that we wrote."""
    faults = []
    for line in lines:
        try:
            told = orjson.loads(line)["level"] in {"error", "critical"}
        except (orjson.JSONDecodeError, KeyError, TypeError):
            told = True
        if told:
            faults.append(line.decode(errors="replace"))
    return faults


def queue_faults(queued: set[int], owed: dict[int, int]) -> list[str]:
    """Return what is wrong with the objects in the queue, given those that are owed and by which case."""
    missing = sorted({number for object_id, number in owed.items() if object_id not in queued})
    faults = [f"case {number}: acknowledged, but not queued" for number in missing]
    forged = [one for one in queued if FORGED_OBJECT <= one < FIRST_OBJECT]
    return faults + [f"object {one}: queued, though nobody signed it" for one in forged]


class Fuzz:
    """One run against one server."""

    def __init__(self, redis: Redis, port: int, pid: int, log: Path, seed: int) -> None:
        self.report = Report()
        self._redis, self._port, self._pid, self._log, self._seed = redis, port, pid, log, seed
        self._read = 0

    async def run(self, numbers: list[int], progress: Progress, players: int) -> None:
        """Play the cases, looking at queue, log and memory after every few."""
        senders = [Player(self._port) for _ in range(players)]
        task = progress.add_task("hostile requests", total=len(numbers))
        for start in range(0, len(numbers), _ROUND):
            left = iter(numbers[start : start + _ROUND])
            await asyncio.gather(*(self._send(sender, left, progress, task) for sender in senders))
            self._look(f"cases {numbers[start]} and after")
            if len(self.report.violations) >= _ENOUGH:
                break
        for sender in senders:
            sender.close()
        self._judge_memory()

    async def _send(self, sender: Player, left: Iterable[int], progress: Progress, task: TaskID) -> None:
        for number in left:
            played = case(self._seed, number, time.time_ns() // 1_000_000)
            try:
                seen = await sender.play(number, played)
                for _ in range(_TRIES):
                    if not played.admitted or _COME_AGAIN not in seen.statuses:
                        break
                    seen = await sender.play(number, played)  # as HubSpot does
            except OSError as error:
                self.report.violations.append(f"case {number}: no connection ({type(error).__name__})")
                return
            for status in [str(status) for status in seen.statuses] or ["no answer"]:
                self.report.statuses[played.kind, status] += 1
            if fault := judge(played, seen):
                again = " ".join(map(str, sender.history or [number]))
                self.report.violations.append(f"{played.kind}: {fault}; --seed {self._seed} --only {again}")
            else:
                self.report.owed |= dict.fromkeys(played.admitted, number)
            progress.advance(task)

    def _look(self, where: str) -> None:
        report = self.report
        with self._log.open("rb") as log:
            log.seek(self._read)
            lines = log.readlines()
            self._read = log.tell()
        report.violations += [f"{where}: log says {line.strip()}" for line in log_faults(lines)]
        report.violations += queue_faults(set(queued_objects(self._redis)), report.owed)
        report.owed.clear()
        self._redis.flushall()
        report.memory_mb.append(resident_mb(self._pid))

    def _judge_memory(self) -> None:
        memory = self.report.memory_mb
        warm = max(memory[: max(1, int(len(memory) * _WARM_UP_SHARE))])
        if memory[-1] > warm + _MAY_GROW_MB:
            self.report.violations.append(f"resident memory grew from {warm:.0f} to {memory[-1]:.0f} MB")


def summary(report: Report) -> str:
    """Return how each kind of case was answered, as a table."""
    rows = []
    for kind in sorted({kind for kind, _ in report.statuses}):
        counts = sorted((status, count) for (one, status), count in report.statuses.items() if one == kind)
        rows.append([kind, ", ".join(f"{status}: {count:,}" for status, count in counts)])
    return table(["kind", "answers"], rows)


def main() -> int:
    """Play, print, and return 1 if anything did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000, help="cases; some are several requests")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, nargs="+", help="numbers of cases, to be played in turn on one connection")
    given = parser.parse_args()
    numbers = given.only or list(range(given.requests))
    print(f"seed {given.seed}, {len(numbers):,} cases", flush=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="spokes-fuzz-")))
        redis = stack.enter_context(valkey(folder))
        port, web = stack.enter_context(spokes(redis, folder, cores=ALL_CORES, **_SETTINGS))
        progress = stack.enter_context(bar())
        fuzz = Fuzz(redis, port, web.pid, folder / "web.log", given.seed)
        uvloop.run(fuzz.run(numbers, progress, 1 if given.only else _PLAYERS))
        if web.poll() is not None:
            fuzz.report.violations.append(f"the web process ended with {web.returncode}")
    report = fuzz.report
    print(summary(report))
    print(f"resident memory at each look, MB: {' '.join(f'{one:.0f}' for one in report.memory_mb)}")
    for violation in report.violations[:_ENOUGH]:
        print(f"VIOLATION {violation}")
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
