"""`audit query|export|verify|checkpoint`: what happened, for people, for programs, and whether it was tampered with.

Rule: it reads the SQL store only; a record that has not left the stream yet is seen a moment later.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, Final, TypeVar

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.checkpoints import FORMAT, Checkpoint, CheckpointKind, load_checkpoints
from spokes.audit.rows import Row, to_json
from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine
from spokes.audit.sql.queries import Filters, find_records
from spokes.audit.verify import VerificationResult, verify
from spokes.console.export import LINE_ENCODERS, ExportFormat, header_line
from spokes.console.output import (
    JsonOption,
    ProgressBar,
    format_utc,
    ignore_closed_pipe,
    print_json,
    print_message,
    print_table,
    progress,
)
from spokes.console.record_filters import with_filter_options
from spokes.core.settings import Settings

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Query, export and verify the audit.")

_COLUMNS: Final = (
    "Time (UTC)",
    "Action",
    "Outcome",
    "Reason",
    "Try",
    "Event",
    "Object",
    "Portal",
    "Handler",
    "Delivery",
)
_CHUNK_LINES: Final = 500  # lines in one write
T = TypeVar("T")


@app.command()
@with_filter_options
def query(
    filters: Filters,
    limit: Annotated[int, typer.Option(help="How many records at most.", min=1)] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show records, the newest first.

    Example: spokes audit query --object-type contact --object-id 51 --since 7d
    """
    rows = asyncio.run(_with_store(lambda engine: _newest_rows(engine, filters, limit)))
    if as_json:
        print_json(*map(to_json, rows))
        return
    if not rows:
        print_message("No record matches.")
        return
    print_table(_COLUMNS, map(_table_row, rows))
    if len(rows) == limit:
        print_message(f"The newest {limit} are shown; --limit shows more.")


@app.command()
@with_filter_options
def export(
    filters: Filters,
    format: Annotated[ExportFormat, typer.Option(help="One JSON object a line, or a table.")] = ExportFormat.JSONL,  # noqa: A002 - the option's name
    output: Annotated[Path | None, typer.Option(help="File to write; standard output when not given.")] = None,
    limit: Annotated[int | None, typer.Option(help="How many records at most.", min=1)] = None,
) -> None:
    """Write records out, the oldest first: times in epoch ms, what is absent is null (JSONL) or empty (CSV).

    Example: spokes audit export --format csv --since 2026-11-01 --until 2026-12-01 --output november.csv
    """
    live = output is None and sys.stdout.isatty()
    with ignore_closed_pipe(), _open_output(output) as out, progress("Records written", limit, quiet=live) as bar:
        out.write(header_line(format))
        asyncio.run(
            _with_store(
                lambda engine: _write_rows(find_records(engine, filters, limit=limit), LINE_ENCODERS[format], out, bar)
            )
        )


@app.command(name="verify")
def verify_chain(
    as_json: JsonOption = False,
    checkpoint: Annotated[
        list[str] | None, typer.Option(help="A checkpoint that was kept elsewhere, or a file of them, one a line.")
    ] = None,
) -> None:
    """Recompute the chain of hashes from the first record.

    Exit code 0 when it is intact, 1 when it is broken.

    Example: spokes audit verify --checkpoint checkpoints.txt && echo intact
    """
    given = [Checkpoint.from_text(line) for told in checkpoint or () for line in _read_checkpoints(told)]
    verdict = asyncio.run(_with_store(lambda engine: _verify(engine, given)))
    if as_json:
        print_json(verdict.as_dict())
    else:
        print(verdict.sentence)
    raise typer.Exit(0 if verdict.is_intact else 1)


@app.command(name="checkpoint")
def show_checkpoint(as_json: JsonOption = False) -> None:
    """Print the newest signed checkpoint; kept elsewhere, it shows later whether the chain was cut off or rewritten.

    Exit code 1 when there is none yet.

    Example: spokes audit checkpoint >> checkpoints.txt
    """
    newest = asyncio.run(_with_store(_newest_checkpoint))
    if newest is None:
        print_message("There is no checkpoint yet; the first comes with the first record.")
        raise typer.Exit(1)
    if as_json:
        print_json({"checkpoint": newest.to_text()})
    else:
        print(newest.to_text())


async def _newest_checkpoint(engine: AsyncEngine) -> Checkpoint | None:
    places = [place for place in await load_checkpoints(engine) if place.kind is CheckpointKind.CHECKPOINT]
    return places[-1] if places else None


def _read_checkpoints(told: str) -> list[str]:
    """The checkpoints in a file of that name, or the one that is meant."""
    file = Path(told)
    text = told if told.startswith(FORMAT) else file.read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip()]


async def _with_store(read: Callable[[AsyncEngine], Coroutine[None, None, T]]) -> T:
    """Answer a question on the store that the environment names."""
    engine = open_engine(Settings.from_env().database_address)
    try:
        await schema.require_current(engine)
        return await read(engine)
    finally:
        await engine.dispose()


async def _newest_rows(engine: AsyncEngine, filters: Filters, limit: int) -> list[Row]:
    return [row async for row in find_records(engine, filters, newest_first=True, limit=limit)]


async def _verify(engine: AsyncEngine, checkpoints: list[Checkpoint]) -> VerificationResult:
    master = Settings.from_env().master_key()
    with progress("Recomputing the chain") as bar:
        return await verify(engine, bar.update, master_key=master, checkpoints=checkpoints)


async def _write_rows(
    rows: AsyncIterator[Row], encode: Callable[[Row], bytes], out: BinaryIO, bar: ProgressBar
) -> None:
    chunk: list[bytes] = []
    done = 0
    async for row in rows:
        chunk.append(encode(row))
        done += 1
        if len(chunk) == _CHUNK_LINES:
            out.write(b"".join(chunk))
            out.flush()
            chunk.clear()
            bar.update(done)
    out.write(b"".join(chunk))
    out.flush()


def _table_row(row: Row) -> tuple[object, ...]:
    at = int(row["at"] or 0)
    thing = " ".join(str(row[name]) for name in ("object_type", "object_id") if row[name] is not None)
    return (
        f"{format_utc(at)}.{at % 1000:03d}", row["action"], row["outcome"], row["reason"], row["attempt"],
        row["subscription_type"], thing, row["portal_id"], row["handler"], row["delivery_id"],
    )  # fmt: skip


@contextmanager
def _open_output(output: Path | None) -> Iterator[BinaryIO]:
    if output is None:
        yield sys.stdout.buffer
        return
    with output.open("wb") as file:
        yield file
