"""Run a room's tests against small faults in it. Rule: in a copy of the tree, and nothing it starts outlives it."""

import ctypes
import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from mutating.lua import Fault, faults

ROOT: Final = Path(__file__).parent.parent.parent
_PACKAGES: Final = ("chaos", "handlers", "ingest", "spokes", "workers")
_ALSO: Final = ("bench", "docs", "tests", "pyproject.toml", "Makefile", "Procfile", "app.json")
_SUBREAPER: Final = 36  # of prctl(2): processes whose parent has died become ours
_SETTINGS: Final = """
[tool.mutmut]
source_paths = {packages}
only_mutate = ["{file}"]
pytest_add_cli_args_test_selection = {tests}
also_copy = {also}
do_not_mutate_patterns = ["Final = "]
"""

_NEXT: Final = "=== next ==="
_SHOW: Final = f"""
import sys
from mutmut.mutation.diff_apply import get_diff_for_mutant
for name in sys.argv[2:]:
    print({_NEXT!r})
    print(get_diff_for_mutant(name, path=sys.argv[1]))
"""
# What takes longest to load, and is no plugin of pytest's; nothing of ours.
_LOADED: Final = ("aiohttp.web", "arq", "hubspot", "redis.asyncio", "sentry_sdk", "sqlalchemy.ext.asyncio", "structlog")


@dataclass(frozen=True, slots=True)
class Mutant:
    """A fault that was tried: the file it is in, the code as it was and as it became, and whether a test saw it."""

    file: str
    was: str
    becomes: str
    killed: bool


class NotGreen(Exception):
    """The tests fail on the code as it is, so they can say nothing of a fault."""


def python_mutants(file: str, tests: Sequence[str], folder: Path) -> list[Mutant]:
    """Let mutmut put its faults into `file`, and return what became of each.

    Raises:
        NotGreen: the tests fail on the code as it is.
    """
    copy_tree(folder)
    words = [str(list(each)) for each in (_PACKAGES, tests, _ALSO)]
    settings = _SETTINGS.format(packages=words[0], file=file, tests=words[1], also=words[2])
    (folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + settings)
    with (folder / "mutmut.log").open("wb") as log, orphans_ended():
        shown = None if sys.stdout.isatty() else log
        done = subprocess.run(_mutmut("run"), cwd=folder, stdout=shown, stderr=shown, check=False)
    if done.returncode:
        raise NotGreen(f"mutmut could not run {' '.join(tests)} on {file}; see {folder / 'mutmut.log'}")
    states = [line.strip().split(": ") for line in _asked(folder, *_mutmut("results", "--all", "true")) if ": " in line]
    seen = {"killed", "timeout", "segfault", "suspicious"}  # a test that never ends has seen the fault, too
    unseen = [name for name, state in states if state not in seen]
    killed = [Mutant(file, "", "", killed=True)] * (len(states) - len(unseen))
    return killed + [_unseen(file, diff) for diff in _diffs(file, unseen, folder)]


def lua_mutants(
    file: str, tests: Sequence[str], folder: Path, *, at_a_time: int, told: Callable[[int, int], None]
) -> list[Mutant]:
    """Put each fault into the script `file`, and return what became of it.

    Args:
        at_a_time: how many copies of the tree are worked in.
        told: called with how many faults are done, and how many there are.

    Raises:
        NotGreen: the tests fail on the code as it is.
    """
    copies = [folder / str(number) for number in range(at_a_time)]
    for copy in copies:
        copy_tree(copy)
    for name in _LOADED:
        importlib.import_module(name)
    started = time.monotonic()
    with orphans_ended():
        if not _Run(tests, copies[0], limit_s=600).passed():
            raise NotGreen(f"{' '.join(tests)} fail on {file} as it is; see {copies[0] / 'tests.log'}")
        limit_s = 20 + 3 * (time.monotonic() - started)
        every = list(faults((ROOT / file).read_text()))
        waiting, under_way, mutants = every[::-1], list[tuple[_Run, Fault]](), list[Mutant]()
        while waiting or under_way:
            while waiting and copies:
                (copies[-1] / file).write_text(waiting[-1].text)
                under_way.append((_Run(tests, copies.pop(), limit_s=limit_s), waiting.pop()))
            for run, fault in under_way[:]:
                if run.ended():
                    under_way.remove((run, fault))
                    copies.append(run.folder)
                    mutants.append(Mutant(file, fault.was, fault.becomes, killed=not run.well))
                    told(len(mutants), len(every))
            time.sleep(0.02)
    return mutants


class _Run:
    """Tests run in a copy of the tree, by a fork of this process, which has loaded what all of them need."""

    def __init__(self, tests: Sequence[str], folder: Path, *, limit_s: float) -> None:
        self.folder = folder
        self.well = False
        self._until = time.monotonic() + limit_s
        self._pid = os.fork()
        if not self._pid:
            code = 99
            try:
                code = _pytest(tests, folder)
            except Exception:  # noqa: BLE001 - whatever it was: what comes after here is the parent's
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)

    def ended(self) -> bool:
        """Whether it is over; it is ended, and not well, once its time is up."""
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        late = not pid and time.monotonic() > self._until
        if not pid and not late:
            return False
        with suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)  # what the tests have started, too
        if late:
            os.waitpid(self._pid, 0)
        self.well = not late and os.waitstatus_to_exitcode(status) == 0
        return True

    def passed(self) -> bool:
        """Wait for the end; return whether all tests passed."""
        while not self.ended():
            time.sleep(0.02)
        return self.well


def _pytest(tests: Sequence[str], folder: Path) -> int:
    """Be a process that tests the copy at `folder`."""
    os.setsid()
    os.chdir(folder)
    log = os.open("tests.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ["PYTHONPATH"] = str(folder)
    sys.path[:] = [str(folder), *(place for place in sys.path if place and not place.startswith(str(ROOT / "bench")))]
    sys.dont_write_bytecode = True
    loaded_early = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
    return int(pytest.main(["-x", "-q", "--no-header", *loaded_early, *tests]))


def copy_tree(folder: Path) -> None:
    """Make `folder` a fresh copy of what the tests need."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in (*_PACKAGES, *_ALSO):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.png"))
        else:
            shutil.copy(ROOT / name, folder / name)


@contextmanager
def orphans_ended() -> Iterator[None]:
    """Have what a stopped test leaves behind come to us, and end it."""
    if sys.platform != "linux":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.prctl(_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(_SUBREAPER, 0, 0, 0, 0)
        for pid in _children():
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _children() -> list[int]:
    """The processes whose parent we are."""
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in listed]


def _diffs(file: str, names: Sequence[str], folder: Path) -> list[list[str]]:
    """The lines by which each of these mutants of mutmut's differs."""
    if not names:
        return []
    shown = "\n".join(_asked(folder, sys.executable, "-c", _SHOW, file, *names))
    return [diff.splitlines() for diff in shown.split(_NEXT)[1:]]


def _unseen(file: str, diff: Sequence[str]) -> Mutant:
    lines = [line for line in diff if not line.startswith(("---", "+++"))]
    was, becomes = (" ".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
    return Mutant(file, was, becomes, killed=False)


def _asked(folder: Path, *words: str) -> list[str]:
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True).stdout.splitlines()


def _mutmut(*words: str) -> list[str]:
    return [sys.executable, "-m", "mutmut", *words]
