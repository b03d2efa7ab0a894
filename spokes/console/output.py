"""How commands speak: tables for people, JSON for programs, sentences on standard error. Rule: all speak alike.

Exit codes: 0 done, or the answer is yes; 1 the answer is no; 2 it could not be done, and a sentence says why.
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

_DEFAULT_WIDTH: Final = 200  # columns, where no terminal says how many there are

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")]
ReasonOption = Annotated[str, typer.Option(help="Why; it stands in the audit.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; for scripts.")]


def print_json(*objects: Mapping[str, object]) -> None:
    """Print one JSON object a line."""
    with ignore_closed_pipe():
        for answer in objects:
            print(orjson.dumps(answer, default=str).decode())
        sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, row_lines: bool = False) -> None:
    """Print a table; `lines` draws one between rows that are several lines high."""
    table = Table(*columns, show_lines=row_lines, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for row in rows:
        table.add_row(*(_safe_text(value) for value in row))
    with ignore_closed_pipe():
        Console(width=None if sys.stdout.isatty() else _DEFAULT_WIDTH).print(table)
        sys.stdout.flush()


def print_message(message: str) -> None:
    """Tell people something that is no answer, on standard error."""
    print(message, file=sys.stderr)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that cannot be undone; whoever does not agree ends the command with exit code 1."""
    if not yes:
        typer.confirm(question, abort=True, err=True)


@contextmanager
def progress(label: str, total: int | None = None, *, quiet: bool = False) -> Iterator["ProgressBar"]:
    """Show a bar on standard error while something long is under way; nothing where that is no terminal.

    Args:
        total: how much there is to do; a bar without it only moves.
        quiet: show nothing, because the answer itself goes to the terminal bit by bit.
    """
    console = Console(stderr=True)
    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as shown:
        yield ProgressBar(shown, total)


class ProgressBar:
    """How far something is."""

    def __init__(self, rich_progress: Progress, total: int | None) -> None:
        self._rich_progress = rich_progress
        self._task = rich_progress.add_task("", total=total)

    def update(self, done: int, total: int | None = None) -> None:
        """Say how much is done, and of how much if that is known by now."""
        self._rich_progress.update(self._task, completed=done, total=total)  # None leaves it as it is


def format_utc(at_ms: float | None) -> str:
    """Return a moment, given in epoch ms, to the second; empty for none."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S") if at_ms else ""


@contextmanager
def ignore_closed_pipe() -> Iterator[None]:
    """End in silence when the reader has had enough, as in `| head`."""
    try:
        yield
    except BrokenPipeError:
        # What is still buffered has nowhere to go; the interpreter would complain of it when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _safe_text(value: object) -> Text:
    """A name as it may stand on a terminal: no markup, no escape sequences."""
    text = "" if value is None else str(value)
    return Text("".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text), overflow="fold")
