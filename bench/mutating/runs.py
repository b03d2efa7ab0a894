"""Run a module's tests against its mutants, in copies of the tree, and stop every process the tests start."""

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

from bench.mutating.lua import LuaMutation, lua_mutations

ROOT: Final = Path(__file__).parent.parent.parent
_PACKAGES: Final = ("chaos", "handlers", "ingest", "spokes", "workers")
_OTHER_FILES: Final = ("bench", "docs", "tests", "pyproject.toml", "Makefile", "Procfile", "app.json")
_SUBREAPER: Final = 36  # option of prctl(2): orphaned descendants become our children
_SETTINGS: Final = """
[tool.mutmut]
source_paths = {packages}
only_mutate = ["{file}"]
pytest_add_cli_args_test_selection = {tests}
also_copy = {also}
do_not_mutate_patterns = ["Final = "]
"""

_SEPARATOR: Final = "=== next ==="
_SHOW_DIFFS: Final = f"""
import sys
from mutmut.mutation.diff_apply import get_diff_for_mutant
for name in sys.argv[2:]:
    print({_SEPARATOR!r})
    print(get_diff_for_mutant(name, path=sys.argv[1]))
"""
# Third-party modules that take long to import; a forked test run inherits them.
_PRELOADED: Final = (
    "aiohttp.web",
    "arq",
    "hubspot",
    "redis.asyncio",
    "sentry_sdk",
    "sqlalchemy.ext.asyncio",
    "structlog",
)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A tested mutant: its file, the original and the mutated code, and whether a test failed."""

    file: str
    original: str
    mutated: str
    killed: bool


class BaselineFailed(Exception):
    """The tests fail on the unchanged code, so their result on a mutant means nothing."""


def python_mutants(file: str, tests: Sequence[str], folder: Path) -> list[Mutant]:
    """Run mutmut on `file`, and return its mutants.

    Raises:
        BaselineFailed: the tests fail on the unchanged code.
    """
    copy_tree(folder)
    values = [str(list(each)) for each in (_PACKAGES, tests, _OTHER_FILES)]
    settings = _SETTINGS.format(packages=values[0], file=file, tests=values[1], also=values[2])
    (folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + settings)
    with (folder / "mutmut.log").open("wb") as log, orphan_cleanup():
        shown = None if sys.stdout.isatty() else log
        done = subprocess.run(_mutmut("run"), cwd=folder, stdout=shown, stderr=shown, check=False)
    if done.returncode:
        raise BaselineFailed(f"mutmut could not run {' '.join(tests)} on {file}; see {folder / 'mutmut.log'}")
    states = [
        line.strip().split(": ") for line in _output_lines(folder, *_mutmut("results", "--all", "true")) if ": " in line
    ]
    seen = {"killed", "timeout", "segfault", "suspicious"}  # a time-out counts as killed
    unseen = [name for name, state in states if state not in seen]
    killed = [Mutant(file, "", "", killed=True)] * (len(states) - len(unseen))
    return killed + [_survivor(file, diff) for diff in _diffs(file, unseen, folder)]


def lua_mutants(
    file: str, tests: Sequence[str], folder: Path, *, parallel: int, progress: Callable[[int, int], None]
) -> list[Mutant]:
    """Run the tests on each mutation of the script `file`, and return the mutants.

    Args:
        parallel: the number of copies of the tree.
        progress: called with the number of mutants done, and of all.

    Raises:
        BaselineFailed: the tests fail on the unchanged code.
    """
    copies = [folder / str(number) for number in range(parallel)]
    for copy in copies:
        copy_tree(copy)
    for name in _PRELOADED:
        importlib.import_module(name)
    started = time.monotonic()
    with orphan_cleanup():
        if not _TestRun(tests, copies[0], limit_s=600).wait():
            raise BaselineFailed(f"{' '.join(tests)} fail on the unchanged {file}; see {copies[0] / 'tests.log'}")
        limit_s = 20 + 3 * (time.monotonic() - started)
        every = list(lua_mutations((ROOT / file).read_text()))
        waiting, under_way, mutants = every[::-1], list[tuple[_TestRun, LuaMutation]](), list[Mutant]()
        while waiting or under_way:
            while waiting and copies:
                (copies[-1] / file).write_text(waiting[-1].text)
                under_way.append((_TestRun(tests, copies.pop(), limit_s=limit_s), waiting.pop()))
            for run, fault in under_way[:]:
                if run.has_ended():
                    under_way.remove((run, fault))
                    copies.append(run.folder)
                    mutants.append(Mutant(file, fault.original, fault.mutated, killed=not run.succeeded))
                    progress(len(mutants), len(every))
            time.sleep(0.02)
    return mutants


class _TestRun:
    """A run of tests in a copy of the tree, in a fork of this process, which has imported what they need."""

    def __init__(self, tests: Sequence[str], folder: Path, *, limit_s: float) -> None:
        self.folder = folder
        self.succeeded = False
        self._deadline = time.monotonic() + limit_s
        self._pid = os.fork()
        if not self._pid:
            code = 99
            try:
                code = _run_pytest(tests, folder)
            except Exception:  # noqa: BLE001 - the forked child must never return into the parent's code
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)

    def has_ended(self) -> bool:
        """Return whether the run is over; after its time limit, kill it and count it as failed."""
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        is_late = not pid and time.monotonic() > self._deadline
        if not pid and not is_late:
            return False
        with suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)  # and the processes the tests started
        if is_late:
            os.waitpid(self._pid, 0)
        self.succeeded = not is_late and os.waitstatus_to_exitcode(status) == 0
        return True

    def wait(self) -> bool:
        """Wait for the end of the run; return whether all tests passed."""
        while not self.has_ended():
            time.sleep(0.02)
        return self.succeeded


def _run_pytest(tests: Sequence[str], folder: Path) -> int:
    """Run pytest in this (forked) process on the copy at `folder`."""
    os.setsid()
    os.chdir(folder)
    log = os.open("tests.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ["PYTHONPATH"] = str(folder)
    sys.path[:] = [str(folder), *(path for path in sys.path if path and not path.startswith(str(ROOT / "bench")))]
    sys.dont_write_bytecode = True
    loaded_early = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
    return int(pytest.main(["-x", "-q", "--no-header", *loaded_early, *tests]))


def copy_tree(folder: Path) -> None:
    """Make `folder` a fresh copy of the files the tests need."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in (*_PACKAGES, *_OTHER_FILES):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.png"))
        else:
            shutil.copy(ROOT / name, folder / name)


@contextmanager
def orphan_cleanup() -> Iterator[None]:
    """Adopt the processes that a stopped test leaves behind, and kill them at the end of the block."""
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
    """Return the ids of this process's children."""
    pids = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in pids]


def _diffs(file: str, names: Sequence[str], folder: Path) -> list[list[str]]:
    """Return the diff of each of these mutmut mutants."""
    if not names:
        return []
    shown = "\n".join(_output_lines(folder, sys.executable, "-c", _SHOW_DIFFS, file, *names))
    return [diff.splitlines() for diff in shown.split(_SEPARATOR)[1:]]


def _survivor(file: str, diff: Sequence[str]) -> Mutant:
    lines = [line for line in diff if not line.startswith(("---", "+++"))]
    was, becomes = (" ".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
    return Mutant(file, was, becomes, killed=False)


def _output_lines(folder: Path, *arguments: str) -> list[str]:
    return subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=True).stdout.splitlines()


def _mutmut(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mutmut", *arguments]
