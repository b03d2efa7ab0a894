"""Output of all commands: tables for people, JSON for programs, messages on standard error.

Exit codes: 0 success, or a positive answer; 1 a negative answer; 2 an error, explained in one sentence.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Final

import orjson
import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

_WHOLE_COLUMNS: Final = frozenset({"Event key"})  # copied into other commands: other columns fold first
_DEFAULT_WIDTH: Final = 200  # columns, if standard output is no terminal

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object a line, for programs.")]


def check_reason(context: typer.Context, parameter: typer.CallbackParam, reason: str) -> str:
    """Refuse a blank reason that was written out; without the option, the reason is empty."""
    source = context.get_parameter_source(parameter.name or "")
    if source is not None and source.name != "DEFAULT" and not reason.strip():
        raise typer.BadParameter("is empty. Write why you do this, or leave the option out.")
    return reason


ReasonOption = Annotated[str, typer.Option(help="Why you do this; recorded in the audit log.", callback=check_reason)]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation; for scripts.")]


def print_json(*objects: Mapping[str, object]) -> None:
    """Print one JSON object a line."""
    with ignore_closed_pipe():
        for each in objects:
            print(orjson.dumps(each, default=str).decode())
        sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, row_lines: bool = False) -> None:
    """Print a table; `row_lines` separates rows that are several lines high."""
    table = Table(*columns, show_lines=row_lines, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in table.columns:
        column.no_wrap = column.header in _WHOLE_COLUMNS
    for row in rows:
        table.add_row(*(_safe_text(value) for value in row))
    with ignore_closed_pipe():
        # Not a terminal with FORCE_COLOR either, which rich takes for one.
        console = Console() if sys.stdout.isatty() else Console(width=_DEFAULT_WIDTH, force_terminal=False)
        console.print(table)
        sys.stdout.flush()


def print_message(message: str) -> None:
    """Print to standard error what people should know and programs should not parse."""
    print(message, file=sys.stderr)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something irreversible, unless `yes`; a refusal ends the command with exit code 1."""
    if not yes:
        typer.confirm(question, abort=True, err=True)


@contextmanager
def progress(label: str, total: int | None = None, *, quiet: bool = False) -> Iterator["ProgressBar"]:
    """Show a progress bar on standard error, if that is a terminal.

    Args:
        total: number of steps; without it the bar only pulses.
        quiet: show no bar, because the result itself is streamed to the terminal.
    """
    console = Console(stderr=True)
    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    is_disabled = quiet or not sys.stderr.isatty()  # rich believes FORCE_COLOR, which cannot make a pipe a terminal
    with Progress(*columns, console=console, transient=True, disable=is_disabled) as rich_progress:
        yield ProgressBar(rich_progress, total)


class ProgressBar:
    """The bar of `progress`."""

    def __init__(self, rich_progress: Progress, total: int | None) -> None:
        self._rich_progress = rich_progress
        self._task = rich_progress.add_task("", total=total)

    def update(self, done: int, total: int | None = None) -> None:
        """Set the steps done, and the total if it is known only now."""
        self._rich_progress.update(self._task, completed=done, total=total)  # None keeps the total


def format_utc(at_ms: float | None) -> str:
    """Return a time (epoch ms) to the second; empty for None and 0."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S") if at_ms else ""


@contextmanager
def ignore_closed_pipe() -> Iterator[None]:
    """End without an error when the reader closes the pipe early, as `| head` does."""
    try:
        yield
    except BrokenPipeError:
        # Discard what is still buffered; otherwise the interpreter reports the broken pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _safe_text(value: object) -> Text:
    """Return a value that a terminal shows literally: without markup and escape sequences."""
    text = "" if value is None else str(value)
    return Text("".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text), overflow="fold")
