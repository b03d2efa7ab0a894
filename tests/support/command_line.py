"""Run commands of the command line in tests, in this process or in one of their own.

`spokes` runs in this process, from `main` on, because starting a process takes a second. `start_spokes` and
`spokes_process` are for what only a process shows.
"""

import io
import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import structlog

from spokes.console.cli import main
from tests.support.deployment import ROOT


class CompletedCommand(NamedTuple):
    """Exit code and output of a command."""

    returncode: int
    stdout: str
    stderr: str


def spokes(environ: Mapping[str, str], *arguments: str) -> CompletedCommand:
    """Run a command in this process with `environ` as its only settings and an empty standard input."""
    with ThreadPoolExecutor(1) as thread:  # the command needs its own event loop, which a test's thread may have
        return thread.submit(_run, {"PATH": os.environ["PATH"], "ENV_FILE": "", **environ}, arguments).result()


def spokes_process(environ: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in its own process, where a warning is an error, with `environ` as its only settings."""
    command = [sys.executable, "-W", "error", "-m", "spokes", *arguments]
    env = {"PATH": os.environ["PATH"], "ENV_FILE": "", **environ}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=150, check=False)


def start_spokes(environ: Mapping[str, str], *arguments: str) -> subprocess.Popen[str]:
    """Start a command that runs until it is stopped; its standard output holds standard error too."""
    return start_spokes_in(ROOT, environ, *arguments)


def start_spokes_in(folder: Path, environ: Mapping[str, str], *arguments: str) -> subprocess.Popen[str]:
    """Start a command in a folder, whose packages do not replace ours."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "spokes", *arguments], cwd=folder,
        env={"PATH": os.environ["PATH"], "ENV_FILE": "", **environ},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def _run(environ: Mapping[str, str], arguments: tuple[str, ...]) -> CompletedCommand:
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    logging, umask = structlog.get_config(), os.umask(0o022)
    os.umask(umask)
    try:
        with (
            patch.dict(os.environ, environ, clear=True),
            patch.multiple(sys, argv=["spokes", *arguments], stdin=io.StringIO(), stdout=out, stderr=err),
        ):
            main()
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
        return CompletedCommand(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))
    finally:
        structlog.configure(**logging)
        os.umask(umask)
