"""Run a room's tests against small faults in it. Rule: in a copy of the tree, and nothing it starts outlives it."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from mutation_lua import Fault, faults

ROOT: Final = Path(__file__).parent.parent
_PACKAGES: Final = ("audit", "chaos", "console", "core", "crm", "handlers", "ingest", "simulator", "workers")
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
    results = subprocess.run(
        _mutmut("results", "--all", "true"), cwd=folder, capture_output=True, text=True, check=True
    )
    found = [line.split(": ") for line in results.stdout.splitlines() if ": " in line]
    return [_mutant(file, name.strip(), state.strip(), folder) for name, state in found]


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
    copies: SimpleQueue[Path] = SimpleQueue()
    for number in range(at_a_time):
        copy_tree(folder / str(number))
        copies.put(folder / str(number))
    started = time.monotonic()
    if not _pass(tests, folder / "0", limit_s=600):
        raise NotGreen(f"{' '.join(tests)} fail on {file} as it is")
    limit_s = 20 + 3 * (time.monotonic() - started)
    every = list(faults((ROOT / file).read_text()))
    done = 0

    def tried(fault: Fault) -> Mutant:
        nonlocal done
        copy = copies.get()
        try:
            (copy / file).write_text(fault.text)
            killed = not _pass(tests, copy, limit_s=limit_s)
        finally:
            copies.put(copy)
        done += 1
        told(done, len(every))
        return Mutant(file, fault.was, fault.becomes, killed)

    with orphans_ended(), ThreadPoolExecutor(at_a_time) as pool:
        return list(pool.map(tried, every))


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


def _pass(tests: Sequence[str], folder: Path, *, limit_s: float) -> bool:
    """Whether the tests pass within `limit_s` seconds in the copy at `folder`."""
    words = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", *tests]
    environ = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        words, cwd=folder, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as running:
        try:
            return running.wait(limit_s) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)


def _mutant(file: str, name: str, state: str, folder: Path) -> Mutant:
    """What mutmut says of one mutant. A test that never ended has seen the fault, too."""
    killed = state in {"killed", "timeout", "segfault", "suspicious"}
    if killed:
        return Mutant(file, "", "", killed=True)
    lines = [line for line in _asked(folder, "show", name) if not line.startswith(("---", "+++"))]
    was, becomes = (" ".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
    return Mutant(file, was, becomes, killed=False)


def _asked(folder: Path, *words: str) -> list[str]:
    done = subprocess.run(_mutmut(*words), cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def _mutmut(*words: str) -> list[str]:
    return [sys.executable, "-m", "mutmut", *words]
