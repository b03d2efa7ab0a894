"""Output of the commands in pipes and on a narrow terminal."""

import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

from tests.support.deployment import ROOT

_KEY = "0123456789abcdef0123456789abcdef"
_PROGRAM = f"""
from spokes.console import output
from rich import console
output._DEFAULT_WIDTH = 80
with output.progress("Reading", 3) as bar:
    bar.update(2)
output.print_table(("Time", "Event key", "Meaning"), [("2026-11-30 06:00:00", "{_KEY}", "long words " * 20)])
"""


def run(program: list[str], environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *program], cwd=ROOT, env={**os.environ, **environ}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("environ", [{}, {"FORCE_COLOR": "1"}, {"NO_COLOR": "1"}])
def test_pipe_gets_no_progress_bar_and_no_colours(environ: Mapping[str, str]) -> None:
    result = run(["-c", _PROGRAM], environ)
    assert (result.returncode, result.stderr) == (0, "")
    assert "\033" not in result.stdout


def test_event_key_stays_on_one_line_at_80_columns() -> None:
    lines = run(["-c", _PROGRAM], {}).stdout.splitlines()
    assert sum(_KEY in line for line in lines) == 1
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("command", [[], ["dead"], ["dead", "list"], ["doctor"]])
def test_short_help_option_is_accepted(command: list[str]) -> None:
    result = run(["-m", "spokes", *command, "-h"], {})
    assert result.returncode == 0
    assert "Usage: spokes" in result.stdout


def test_version_is_printed() -> None:
    result = run(["-m", "spokes", "--version"], {})
    assert (result.returncode, result.stdout.split()[0]) == (0, "spokes")
