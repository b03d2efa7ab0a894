"""What `bench/end_to_end.py` measured, as tables, a chart, and the first figures of the README. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from bench.lib.plots import line_chart
from bench.lib.tables import table

RIVAL: Final = "stock arq"
SQLITE: Final = "SQLite"
POSTGRESQL: Final = "PostgreSQL"
STEPS: Final = ("202", "handler", "write", "SQL", "SQL after the write")
COMMAND: Final = "python bench/end_to_end.py --write"
_WINDOW_S: Final = 10.0
_LEAST_MS: Final = 1.0  # the chart's axes are logarithmic


class Load(NamedTuple):
    """What is sent: events a second (0: all at once), events of a request, and HubSpot's limit, 0 for none."""

    rate: float
    batch: int
    seconds: float
    limit: int = 190
    workers: int = 1
    latency_ms: float = 0.0
    events: int = 0  # of a burst
    imports: float = 0.0  # a second, beside the others
    store: str = SQLITE

    @property
    def number_of_events(self) -> int:
        """The number of events without those of the import, a multiple of the batch."""
        return (self.events or round(self.rate * self.seconds)) // self.batch * self.batch

    def __str__(self) -> str:
        """Return the load in words."""
        rate = f"{self.rate:g}/s" if self.rate else f"{self.number_of_events:,} at once"
        size = "singles" if self.batch == 1 else f"in {self.batch}s"
        workers = f", {self.workers} workers" if self.workers > 1 else ""
        slow = f", answers after {self.latency_ms:g} ms" if self.latency_ms else ""
        imports = f", beside an import of {self.imports:g}/s" if self.imports else ""
        store = "" if self.store == SQLITE else f", audit in {self.store}"
        return f"{rate} {size}{workers}{slow}{imports}{store}"


@dataclass(slots=True)
class Measured:
    """The latencies in ms of one run, sorted, by step; CPU in us an event by process; calls of HubSpot."""

    load: Load
    seconds: float
    latencies: dict[str, list[float]] = field(default_factory=dict)
    cpu_us: dict[str, float] = field(default_factory=dict)
    calls: int = 0
    most_calls: int = 0  # in any ten seconds
    used_share: float = 0.0  # of the limit, from the first window to the last request
    rate_limited: int = 0

    def quantiles(self, step: str) -> str:
        """Return p50 and p99 of a step."""
        values = self.latencies.get(step)
        return f"{quantile(values, 0.5):,.0f} / {quantile(values, 0.99):,.0f}" if values else "-"

    @property
    def write_p50(self) -> float:
        """The median write latency."""
        return quantile(self.latencies["write"], 0.5)

    @property
    def rate(self) -> float:
        """Events a second, from the first request to the last row."""
        return self.load.number_of_events / self.seconds

    @property
    def worker_us(self) -> float:
        """CPU of all workers, in us an event."""
        return sum(us for name, us in self.cpu_us.items() if name.startswith("worker"))


def quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile of sorted values."""
    return values[min(int(len(values) * share), len(values) - 1)]


def most_in_window(calls: Sequence[float]) -> int:
    """Return the most calls in any ten seconds."""
    ordered = sorted(calls)
    most, first = 0, 0
    for number, at in enumerate(ordered):
        while ordered[first] <= at - _WINDOW_S:
            first += 1
        most = max(most, number - first + 1)
    return most


def used_share(calls: Sequence[float], begin: float, end: float, limit: int) -> float:
    """Return the share of the limit that the calls between two times used; 0 without a limit, or within a window."""
    if not limit or end - begin < _WINDOW_S:
        return 0.0
    return sum(begin <= at < end for at in calls) / (limit * (end - begin) / _WINDOW_S)


def latency_table(runs: Sequence[Measured]) -> str:
    """Return the table of latencies, p50 / p99 in ms."""
    head = ["load", "limit", *STEPS, "calls", "most in 10 s", "used", "429", "worker, us an event"]
    rows = [
        [
            str(run.load), str(run.load.limit or "-"), *(run.quantiles(step) for step in STEPS), f"{run.calls:,}",
            f"{run.most_calls}", f"{run.used_share:.0%}" if run.used_share else "-", f"{run.rate_limited}",
            f"{run.worker_us:.0f}",
        ]
        for run in runs
    ]  # fmt: skip
    return table(head, rows)


def burst_table(pairs: Sequence[tuple[Measured, Measured]]) -> str:
    """Return the table of bursts."""
    head = ["burst", "", "events/s", "x", "web / worker / Valkey, us an event", "calls"]
    rows = []
    for ours, theirs in pairs:
        for name, run in (("Spokes", ours), (RIVAL, theirs)):
            cpu = " / ".join(f"{run.cpu_us[each]:.0f}" for each in ("web", "worker 0", "Valkey"))
            rows.append(
                [str(run.load), name, f"{run.rate:,.0f}", f"{run.rate / theirs.rate:.1f}", cpu, f"{run.calls:,}"]
            )
    return table(head, rows)


def latency_chart(runs: Sequence[Measured]) -> str:
    """Return the chart of latencies by rate: singles within HubSpot's limit, one worker."""
    shown = sorted((run for run in runs if _is_plain(run.load)), key=lambda run: run.load.rate)
    lines = {
        f"{step}, {name}": [
            (run.load.rate, max(quantile(run.latencies[step], share), _LEAST_MS)) for run in shown
        ]
        for step in ("202", "write", "SQL")
        for name, share in (("p50", 0.5), ("p99", 0.99))
    }  # fmt: skip
    title = "From HubSpot's change to the 202, the write and the row; 190 calls in 10 s"
    return line_chart(title, lines, x_label="single events a second", y_label="ms", command=COMMAND)


def readme_text(runs: Sequence[Measured], pairs: Sequence[tuple[Measured, Measured]]) -> str:
    """Return the README's first table of costs."""
    rows = [
        [f"{run.load.rate:g}/s", *(run.quantiles(step) for step in ("202", "write", "SQL"))]
        for run in runs
        if _is_plain(run.load)
    ]
    head = ["single events, 190 calls in 10 s", "202, ms", "write in HubSpot, ms", "row in SQL, ms"]
    ratios = " and ".join(
        f"{ours.rate / theirs.rate:.1f} x in requests of {'one' if ours.load.batch == 1 else ours.load.batch}"
        for ours, theirs in reversed(pairs)
    )
    return f"""
From HubSpot's change, median / 99th percentile, with the default contacts handler, which reads and writes a contact:

{table(head, rows).strip()}

Bursts of {pairs[0][0].load.number_of_events:,} such events, compared with {RIVAL} (a job, a GET, a PATCH and an insert
into SQLite an event): {ratios}.

![Latencies by rate](docs/images/bench-end-to-end.svg)
"""


def _is_plain(load: Load) -> bool:
    """Return whether a load is one of singles within HubSpot's limit, with one worker and nothing else."""
    return load == Load(load.rate, 1, load.seconds) and load.rate > 0
