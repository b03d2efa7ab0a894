"""Output of all commands: tables for people, JSON for programs, messages on standard error.

Exit codes: 0 success, or a positive answer; 1 a negative answer; 2 an error, explained in one sentence.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Final, Protocol

import orjson
import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.prompt import Confirm, Prompt
from rich.table import Table
from rich.text import Text

from spokes.console import table_layout
from spokes.console.table_layout import column_widths
from spokes.console.utc_times import format_epoch_ms
from spokes.core.process.progress_lines import ProgressLines

_DEFAULT_WIDTH: Final = 200  # columns, if standard output is no terminal

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object a line, for programs.")]


def check_reason(context: typer.Context, parameter: typer.CallbackParam, reason: str) -> str:
    """Refuse a blank reason that was written out; without the option, the reason is empty."""
    source = context.get_parameter_source(parameter.name or "")
    if source is not None and source.name != "DEFAULT" and not reason.strip():
        raise typer.BadParameter("is empty. Write why you do this, or leave the option out.")
    return reason


ReasonOption = Annotated[str, typer.Option(help="Why you do this; recorded in the audit log.", callback=check_reason)]


def require_reason(context: typer.Context, parameter: typer.CallbackParam, reason: str) -> str:
    """Ask for the reason if the option is missing, in a terminal; refuse a blank one."""
    reason = check_reason(context, parameter, reason)
    if not reason and not context.resilient_parsing:
        if sys.stdin is None or not sys.stdin.isatty():
            raise typer.BadParameter("is missing. Add --reason with why you do this.")
        reason = Prompt.ask("Reason", console=Console(stderr=True))
        if not reason.strip():
            raise typer.BadParameter("is empty. Write why you do this.")
    return reason


RequiredReasonOption = Annotated[
    str,
    typer.Option(
        help="Why you do this; recorded in the audit log.",
        callback=require_reason,
        show_default="asked for in a terminal",
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation; for scripts.")]


def print_json(*objects: Mapping[str, object]) -> None:
    """Print one JSON object a line."""
    with ignore_closed_pipe():
        for each in objects:
            print(orjson.dumps(each, default=str).decode())
        sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, row_lines: bool = False) -> None:
    """Print a table, or one block of lines for each row if the table is wider than the terminal.

    `row_lines` separates rows that are several lines high.
    """
    cells = [[_safe_text(value) for value in row] for row in rows]
    # Not a terminal with FORCE_COLOR either, which rich takes for one.
    console = Console() if sys.stdout.isatty() else Console(width=_DEFAULT_WIDTH, force_terminal=False)
    widths = column_widths(columns, cells, console.width)
    with ignore_closed_pipe():
        if widths is None:
            blocks = ["\n".join(table_layout.row_lines(columns, row, console.width)) for row in cells]
            print("\n\n".join(blocks))
        else:
            console.print(_table(columns, cells, widths, row_lines=row_lines))
        sys.stdout.flush()


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], widths: Iterable[int], *, row_lines: bool) -> Table:
    table = Table(show_lines=row_lines, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column, width in zip(columns, widths, strict=True):
        table.add_column(column, width=width)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def print_message(message: str) -> None:
    """Print to standard error what people should know and programs should not parse."""
    print(_safe_text(message), file=sys.stderr)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something irreversible, unless `yes`; "no" ends the command with exit code 1, no answer with 2."""
    if yes:
        return
    try:  # not `typer.confirm`, which writes a space to standard output
        is_confirmed = Confirm.ask(Text(question), console=Console(stderr=True), default=False)
    except (EOFError, RuntimeError):  # the input has ended, or there is none
        print_message("")
        if sys.stdin is None or not sys.stdin.isatty():
            print_message("Nobody confirmed, so nothing was changed. Add --yes where nobody can answer: in a script.")
            raise typer.Exit(2) from None
        is_confirmed = False
    if not is_confirmed:
        print_message("Nothing was changed.")
        raise typer.Exit(1)


@contextmanager
def progress(label: str, total: int | None = None, *, quiet: bool = False) -> Iterator["Progress"]:
    """Show progress on standard error: a bar on a terminal, else lines at growing intervals if the work takes long.

    Args:
        total: number of steps; without it the bar only pulses.
        quiet: show nothing, because the result itself is streamed to the terminal.
    """
    if sys.stderr.isatty() or quiet:  # rich believes FORCE_COLOR, which cannot make a pipe a terminal
        columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with RichProgress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as rich_progress:
            yield ProgressBar(rich_progress, total)
    else:
        with ProgressLines(label, total) as lines:
            yield lines


class Progress(Protocol):
    """What `progress` shows."""

    def update(self, done: int, total: int | None = None) -> None:
        """Set the steps done, and the total if it is known only now."""


class ProgressBar:
    """A bar on a terminal."""

    def __init__(self, rich_progress: RichProgress, total: int | None) -> None:
        self._rich_progress = rich_progress
        self._task = rich_progress.add_task("", total=total)

    def update(self, done: int, total: int | None = None) -> None:
        """Set the steps done, and the total if it is known only now."""
        self._rich_progress.update(self._task, completed=done, total=total)  # None keeps the total


def format_utc(at_ms: float | None) -> str:
    """Return a time (epoch ms) to the second; empty for None and 0."""
    return format_epoch_ms(at_ms, "%Y-%m-%d %H:%M:%S")


@contextmanager
def ignore_closed_pipe() -> Iterator[None]:
    """End without an error when the reader closes the pipe early, as `| head` does."""
    try:
        yield
    except BrokenPipeError:
        # Discard what is still buffered; otherwise the interpreter reports the broken pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _safe_text(value: object) -> str:
    """Return a value that a terminal shows literally: without markup and escape sequences."""
    text = "" if value is None else str(value)
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)
