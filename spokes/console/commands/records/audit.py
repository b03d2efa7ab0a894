"""`audit query|export|affected|verify|checkpoint`: read the audit store and verify its chain.

The commands read the SQL store only, so a record is visible once the archiver has copied it from the Redis stream.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, BinaryIO, Final, TypeVar

import typer
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.checkpoints import FORMAT, Checkpoint, sign_end_now, signing_key
from spokes.audit.evidence.chain_end import KnownEnd
from spokes.audit.rows import Row, to_json
from spokes.audit.sql.affected import affected_objects
from spokes.audit.sql.queries import Filters, find_records
from spokes.audit.verification.full_verification import load_known_end, verify_fully
from spokes.audit.verification.verify import VerificationResult
from spokes.console.audit_store import open_audit_store
from spokes.console.commands.records.affected_table import AFFECTED_COLUMNS, affected_row
from spokes.console.export import LINE_ENCODERS, ExportFormat, header_line
from spokes.console.output import (
    JsonOption,
    Progress,
    format_utc,
    ignore_closed_pipe,
    print_json,
    print_message,
    print_table,
    progress,
)
from spokes.console.record_filters import check_period, parse_fingerprint_option, parse_time_option, with_filter_options
from spokes.core.errors import ConfigurationError
from spokes.core.master_key import load_master_key
from spokes.core.redis.connections import redis_client
from spokes.core.redis.refusal_sentences import refusal_sentence
from spokes.core.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Query, export and verify the audit: the record of what Spokes received, decided and wrote.",
)

_COLUMNS: Final = (
    "Time (UTC)",
    "Action",
    "Outcome",
    "Reason",
    "Attempt",
    "Event",
    "Object",
    "Portal",
    "Handler",
    "Delivery",
)
_CHUNK_LINES: Final = 500  # lines per write
T = TypeVar("T")


@app.command()
@with_filter_options
def query(
    filters: Filters,
    limit: Annotated[int, typer.Option(help="Maximum number of records.", min=1)] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show audit records, newest first. A record appears here a moment after it was written.

    Example: spokes audit query --object-type contact --object-id 51 --since 7d
    """
    rows = asyncio.run(_with_store(lambda engine: _newest_rows(engine, filters, limit)))
    if as_json:
        print_json(*map(to_json, rows))
        return
    if not rows:
        print_message("No record matches these filters.")
        return
    print_table(_COLUMNS, map(_table_row, rows))
    if len(rows) == limit:
        print_message(f"Only the newest {limit} records are shown; --limit shows more.")


@app.command()
@with_filter_options
def export(
    filters: Filters,
    format: Annotated[ExportFormat, typer.Option(help="One JSON object a line, or CSV.")] = ExportFormat.JSONL,  # noqa: A002 - the option's name
    output: Annotated[Path | None, typer.Option(help="File to write; default: standard output.")] = None,
    limit: Annotated[int | None, typer.Option(help="Maximum number of records; default: all.", min=1)] = None,
) -> None:
    """Export audit records, oldest first. Times are epoch ms; absent values are null (JSONL) or empty (CSV).

    Example: spokes audit export --format csv --since 2026-11-01 --until 2026-12-01 --output november.csv
    """
    to_terminal = output is None and sys.stdout.isatty()
    with (
        ignore_closed_pipe(),
        _open_output(output) as out,
        progress("Records written", limit, quiet=to_terminal) as bar,
    ):
        out.write(header_line(format))
        encode = LINE_ENCODERS[format]
        asyncio.run(
            _with_store(lambda engine: _write_rows(find_records(engine, filters, limit=limit), encode, out, bar))
        )


@app.command()
def affected(
    since: Annotated[int, typer.Option(help="From this time on.", parser=parse_time_option, metavar="TIME")],
    until: Annotated[
        int | None, typer.Option(help="Before this time.", parser=parse_time_option, metavar="TIME")
    ] = None,
    actor: Annotated[str | None, typer.Option(help="Only uses by this actor: spokes, or an operator.")] = None,
    handler: Annotated[str | None, typer.Option(help="Only uses by this handler.")] = None,
    token: Annotated[
        str | None,
        typer.Option(
            help="Only uses with the access token of this fingerprint: `spokes secrets fingerprints`.",
            parser=parse_fingerprint_option,
            metavar="FINGERPRINT",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List each object that was read, written, exported or revealed in a period, once.

    An object counts as read if a handler received an event of it; with --token, if that handler also called HubSpot
    with the token. Records of versions before this option name no token. Other objects that a handler read are not
    recorded, and neither are exports of the audit.

    Example: spokes audit affected --since 2026-11-23T14:00 --until 2026-11-24 --handler contacts.on_creation
    """
    filters = Filters(since=since, until=until, actor=actor, handler=handler, token=token)
    check_period(filters)
    objects = asyncio.run(_with_store(lambda engine: affected_objects(engine, filters)))
    if as_json:
        print_json(*(asdict(item) for item in objects))
        return
    if not objects:
        print_message("No object was read, written, exported or revealed in this period.")
        return
    print_table(AFFECTED_COLUMNS, map(affected_row, objects))
    print_message(f"Distinct objects: {len(objects)}")


@app.command(name="verify")
def verify_chain(
    as_json: JsonOption = False,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(help="A checkpoint that you keep outside the store, or a file with one a line; repeatable."),
    ] = None,
    investigated: Annotated[
        int, typer.Option(help="Do not report forged stream entries up to this record, which you have investigated.")
    ] = 0,
) -> None:
    """Recompute the chain of hashes over all records, and compare it with the signed checkpoints.

    The chain is also compared with its end as Redis keeps it, and with the checkpoints in the file of CHECKPOINT_TO.
    Compared with a checkpoint that you keep elsewhere, a truncated or rewritten chain is detected in any case.

    Exit code 0 when the chain is intact, 1 when it is broken or when forged entries were found in the audit stream.

    Example: spokes audit verify --checkpoint checkpoints.txt && echo intact
    """
    checkpoints = [Checkpoint.from_text(line) for argument in checkpoint or () for line in _read_checkpoints(argument)]
    result = asyncio.run(_with_store(lambda engine: _verify(engine, checkpoints, investigated)))
    if as_json:
        print_json(result.as_dict())
    else:
        print(result.sentence)
    raise typer.Exit(0 if result.is_intact else 1)


@app.command(name="checkpoint")
def show_checkpoint(as_json: JsonOption = False) -> None:
    """Sign the end that the chain has now, and print this checkpoint. Keep it outside the store.

    With it, `spokes audit verify` detects a chain that was truncated or rewritten before this moment. CHECKPOINT_TO
    keeps a checkpoint every hour by itself.

    Exit code 1 when there is no record yet.

    Example: spokes audit checkpoint >> checkpoints.txt
    """
    key = signing_key(load_master_key(Settings.from_env()))
    newest = asyncio.run(_with_store(lambda engine: sign_end_now(engine, key)))
    if newest is None:
        print_message("There is no record yet, so there is nothing to sign.")
        raise typer.Exit(1)
    if as_json:
        print_json({"checkpoint": newest.to_text()})
    else:
        print(newest.to_text())


def _read_checkpoints(argument: str) -> list[str]:
    """Return the checkpoints of the named file, or the argument itself if it is a checkpoint."""
    text = argument if argument.startswith(FORMAT) else Path(argument).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip()]


async def _with_store(read: Callable[[AsyncEngine], Coroutine[None, None, T]]) -> T:
    """Call `read` with the audit store of the environment."""
    async with open_audit_store(Settings.from_env()) as engine:
        return await read(engine)


async def _newest_rows(engine: AsyncEngine, filters: Filters, limit: int) -> list[Row]:
    return [row async for row in find_records(engine, filters, newest_first=True, limit=limit)]


async def _verify(engine: AsyncEngine, checkpoints: list[Checkpoint], investigated_seq: int) -> VerificationResult:
    settings = Settings.from_env()
    known = await _known_end(settings)
    with progress("Recomputing the chain") as bar:
        return await verify_fully(
            settings,
            engine,
            known,
            checkpoints=checkpoints,
            investigated_seq=investigated_seq,
            progress=bar.update,
        )


async def _known_end(settings: Settings) -> KnownEnd:
    """Return the chain's end as Redis keeps it; nothing, with a message, if Redis does not answer."""
    try:
        async with redis_client(settings) as redis:
            return await load_known_end(settings, redis)
    except (RedisError, OSError, ConfigurationError) as error:
        sentence = str(error) if isinstance(error, ConfigurationError) else refusal_sentence(error)
        print_message(f"{sentence} The chain is not compared with the end that Redis keeps.")
        return KnownEnd()


async def _write_rows(rows: AsyncIterator[Row], encode: Callable[[Row], bytes], out: BinaryIO, bar: Progress) -> None:
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
    object_ = " ".join(str(row[name]) for name in ("object_type", "object_id") if row[name] is not None)
    return (
        f"{format_utc(at)}.{at % 1000:03d}", row["action"], row["outcome"], row["reason"], row["attempt"],
        row["subscription_type"], object_, row["portal_id"], row["handler"], row["delivery_id"],
    )  # fmt: skip


@contextmanager
def _open_output(output: Path | None) -> Iterator[BinaryIO]:
    if output is None:
        yield sys.stdout.buffer
        return
    with output.open("wb") as file:
        yield file
