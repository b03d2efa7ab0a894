"""Output of the commands in pipes and on a narrow terminal."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import pytest

from spokes.console import output
from tests.support.command_line import spokes
from tests.support.deployment import ROOT

_KEY = "0123456789abcdef0123456789abcdef"
_PROGRAM = """
from spokes.console import output
with output.progress("Reading", 3) as bar:
    bar.update(2)
output.print_table(("A", "B"), [("x", "y")])
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


Printed: TypeAlias = Callable[..., list[str]]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Printed:
    """Return the lines of a table printed to a pipe as wide as a terminal."""

    def print_lines(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int = 80) -> list[str]:
        monkeypatch.setattr(output, "_DEFAULT_WIDTH", width)
        output.print_table(columns, rows)
        return capsys.readouterr().out.splitlines()

    return print_lines


def test_event_key_stays_on_one_line_at_80_columns(printed: Printed) -> None:
    lines = printed(("Time", "Event key", "Meaning"), [("2026-11-30 06:00:00", _KEY, "long words " * 20)])
    assert sum(_KEY in line for line in lines) == 1
    assert max(map(len, lines)) <= 80


# every command's table with the longest values that it prints
_TABLES = {
    "audit query": ("Time (UTC)", "Action", "Outcome", "Reason", "Attempt", "Event", "Object", "Portal", "Handler",
                    "Delivery"),
    "affected": ("Portal", "Object", "Use", "Records", "First (UTC)", "Last (UTC)"),
    "incident list": ("Incident", "Title", "Aware (UTC)", "Notify by (UTC)", "State", "Clock"),
    "queue": ("Delivery", "Events", "In progress (s)", "Handlers", "Worker", ""),
    "alerts": ("Since (UTC)", "Alert", "Portal", "Meaning", "What to do", "Figures"),
    "users": ("Name", "Roles", "Portals", "Password"),
    "dead show": ("Field", "Value"),
}  # fmt: skip
_VALUES = (
    "2026-11-30 06:00:00.123", "50112233-1795442400000-0123456789abcdef", "contacts.keep_reachable_in_every_country",
    "object_not_found", "17", "contact.propertyChange", "0-1 318845120771 (mobilephone)", _KEY,
    "the handler raised my_package.errors.TooManyRetriesOfOneRecord at handlers/contacts.py:141", "worker-7f9c2d",
)  # fmt: skip


@pytest.mark.parametrize("columns", _TABLES.values(), ids=_TABLES)
@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("shift", [0, 3, 7])
def test_no_column_vanishes_and_no_word_is_divided(
    printed: Printed, columns: tuple[str, ...], width: int, shift: int
) -> None:
    row = [_VALUES[(number + shift) % len(_VALUES)] for number in range(len(columns))]
    words = " ".join(printed(columns, [row, row], width)).split()
    missing = [word for word in " ".join((*columns, *row, *row)).split() if word not in words]
    assert missing == []


def test_row_wider_than_the_terminal_is_a_block_with_a_line_for_each_column(printed: Printed) -> None:
    lines = printed(("Delivery", "Reason", "Handler"), [("d" * 60, "", "h" * 30), ("e" * 60, "no room", "")])
    assert lines == [
        f"Delivery  {'d' * 60}", "Reason", f"Handler   {'h' * 30}", "", f"Delivery  {'e' * 60}", "Reason    no room",
        "Handler",
    ]  # fmt: skip


def test_table_that_fits_keeps_each_row_on_its_line(printed: Printed) -> None:
    lines = printed(("A", "B"), [("x" * 36, "y" * 36), ("x", "y")])
    assert [line.split() for line in lines if line.strip("- \u2500")] == [
        ["A", "B"], ["x" * 36, "y" * 36], ["x", "y"],
    ]  # fmt: skip


def test_value_shows_no_escape_sequence_in_a_block(printed: Printed) -> None:
    assert "\033" not in "".join(printed(("A", "B"), [("x" * 79, "\033[31mred")]))


@pytest.mark.parametrize("command", [[], ["dead"], ["dead", "list"], ["doctor"]])
def test_short_help_option_is_accepted(command: list[str]) -> None:
    result = spokes({}, *command, "-h")
    assert result.returncode == 0
    assert "Usage: spokes" in result.stdout


def test_version_is_printed() -> None:
    result = spokes({}, "--version")
    assert (result.returncode, result.stdout.split()[0]) == (0, "spokes")


@pytest.mark.parametrize(
    ("written", "completed"),
    [
        ("spokes ", "doctor"), ("spokes au", "audit"), ("spokes audit ", "verify"),
        ("spokes audit query --tok", "--token"), ("spokes audit query --outcome de", "dead"),
        ("spokes dead rep", "replay"), ("spokes incident ", "export"),
    ],
)  # fmt: skip
def test_shell_completes_commands_options_and_values(written: str, completed: str) -> None:
    words = {"COMP_WORDS": written, "COMP_CWORD": str(len(written.split()) - (not written.endswith(" ")))}
    result = spokes({**words, "_SPOKES_COMPLETE": "complete_bash"})
    assert (result.stderr, completed in result.stdout.split()) == ("", True)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_is_shown_for_each_shell(shell: str) -> None:
    result = spokes({"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}, "--show-completion", shell)
    assert (result.returncode, "_SPOKES_COMPLETE" in result.stdout) == (0, True)


_CONFIRMATION = """
from typer import Typer
from spokes.console.output import confirm
app = Typer()
@app.command()
def replay() -> None:
    confirm("Replay 3 dead letters?", yes=False)
    print("replayed")
app()
"""


@pytest.mark.parametrize(
    ("answer", "code", "stdout", "message"),
    [
        ("y\n", 0, "replayed\n", "Replay 3 dead letters?"),
        ("n\n", 1, "", "Nothing was changed."),
        ("", 2, "", "nothing was changed. Add --yes"),
        ("perhaps\n", 2, "", "nothing was changed. Add --yes"),
    ],
)
def test_confirmation_without_a_terminal_names_the_option(answer: str, code: int, stdout: str, message: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", _CONFIRMATION], cwd=ROOT, input=answer, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout, message in result.stderr) == (code, stdout, True), result.stderr


def test_confirmation_with_closed_standard_input_names_the_option() -> None:
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.stdin = None\n{_CONFIRMATION}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (result.returncode, "Add --yes" in result.stderr) == (2, True), result.stderr


def test_every_confirmation_is_this_one() -> None:
    asking = re.compile(r"typer\.confirm\(|prompt=|(?:Confirm|Prompt)\.ask\(|\binput\(")
    sources = [path.name for path in (ROOT / "spokes").rglob("*.py") if asking.search(path.read_text())]
    assert sources == ["output.py"]
