import pytest
from redis.asyncio import Redis
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.archiver import Archiver
from spokes.audit.checkpoints import Checkpoint, CheckpointKind, load_checkpoints
from spokes.audit.retention import purge
from spokes.audit.sql import partitions, schema
from spokes.audit.sql.engine import read_connection, write_connection
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import CHECKPOINTS, HEAD, RECORDS
from spokes.audit.stream import append
from spokes.audit.verify import Tampering, verify
from spokes.core.errors import AuditUnavailable
from tests.support.deployment import KEY
from tests.support.events import record


async def fill(redis: Redis, engine: AsyncEngine, first: int, last: int) -> None:
    """Archive the records of these numbers; number n is of the epoch ms n."""
    async with redis.pipeline() as pipeline:
        for number in range(first, last + 1):
            append(pipeline, record(number, at=number))
        await pipeline.execute()
    await Archiver(redis, engine, KEY, checkpoint_every=10).drain()


async def seqs(engine: AsyncEngine) -> list[int]:
    return [int(row["seq"] or 0) for row in await fetch(engine, select(RECORDS.c.seq).order_by(RECORDS.c.seq))]


async def test_old_records_go_and_the_chain_verifies_from_the_anchor(redis: Redis, engine: AsyncEngine) -> None:
    await fill(redis, engine, 1, 25)
    assert await purge(engine, KEY, before_ms=12, batch_size=4) == 11
    verdict = await verify(engine, master_key=KEY)
    assert (await seqs(engine), verdict.is_intact, verdict.records) == (list(range(12, 26)), True, 14)


async def test_everything_may_go(redis: Redis, engine: AsyncEngine) -> None:
    await fill(redis, engine, 1, 5)
    await purge(engine, KEY, before_ms=100)
    await fill(redis, engine, 101, 102)
    verdict = await verify(engine, master_key=KEY)
    assert (await seqs(engine), verdict.is_intact) == ([6, 7], True)


async def test_purge_that_was_stopped_goes_on(
    redis: Redis, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had purged until then has its anchor."""
    await fill(redis, engine, 1, 20)
    await purge(engine, KEY, before_ms=4, batch_size=2)
    halfway = await verify(engine, master_key=KEY)
    assert await purge(engine, KEY, before_ms=15, batch_size=2) == 11
    assert (halfway.is_intact, (await verify(engine, master_key=KEY)).is_intact) == (True, True)


async def test_nothing_old_is_nothing_purged(redis: Redis, engine: AsyncEngine) -> None:
    await fill(redis, engine, 5, 9)
    assert (await purge(engine, KEY, before_ms=5), await purge(engine, KEY, before_ms=1)) == (0, 0)


async def test_removed_beginning_is_not_retention(redis: Redis, engine: AsyncEngine) -> None:
    """Whoever lacks the key cannot make an anchor."""
    await fill(redis, engine, 1, 9)
    [fifth] = await fetch(engine, select(RECORDS.c.hash).where(RECORDS.c.seq == 5))
    forged = Checkpoint(CheckpointKind.ANCHOR, 5, str(fifth["hash"]), 1).with_signature(b"another key")
    async with write_connection(engine) as connection:
        await connection.execute(text("DELETE FROM audit_records WHERE seq <= 5"))
        fields = {"kind": forged.kind, "seq": 5, "hash": forged.hash, "at": 1, "signature": forged.signature}
        await connection.execute(CHECKPOINTS.insert().values(**fields))
    verdict = await verify(engine, master_key=KEY)
    assert (verdict.tampering, verdict.seq) == (Tampering.REWRITTEN, 5)


async def rewrite(engine: AsyncEngine, redis: Redis) -> None:
    """Make the whole chain anew with one record changed, as somebody does who can write to the database."""
    async with write_connection(engine) as connection:
        for table in ("audit_records", "audit_checkpoints"):
            await connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - our own names
        await connection.execute(text("UPDATE audit_head SET seq = 0, hash = :genesis"), {"genesis": "0" * 64})
    async with redis.pipeline() as pipeline:
        for number in range(1, 25):
            append(pipeline, record(number, at=number, outcome="dead" if number == 3 else "processed"))
        await pipeline.execute()
    await Archiver(redis, engine, KEY, checkpoint_every=1000).drain()


async def newest(engine: AsyncEngine) -> Checkpoint:
    return (await load_checkpoints(engine))[-1]


async def test_checkpoints_are_signed_as_the_chain_grows(redis: Redis, engine: AsyncEngine) -> None:
    for first in (1, 11, 14, 24):
        await fill(redis, engine, first, first + 2)
    assert [place.seq for place in await load_checkpoints(engine)] == [3]
    await fill(redis, engine, 27, 29)
    assert [place.seq for place in await load_checkpoints(engine)] == [3, 15]


async def test_rewritten_chain_is_found_by_a_checkpoint_kept_elsewhere(redis: Redis, engine: AsyncEngine) -> None:
    await fill(redis, engine, 1, 24)
    kept = await newest(engine)
    await rewrite(engine, redis)
    alone, shown = await verify(engine, master_key=KEY), await verify(engine, master_key=KEY, checkpoints=[kept])
    assert (alone.is_intact, shown.tampering, shown.seq) == (True, Tampering.REWRITTEN, 24)


async def test_tail_that_was_cut_off_is_found_by_a_checkpoint_kept_elsewhere(redis: Redis, engine: AsyncEngine) -> None:
    await fill(redis, engine, 1, 24)
    kept = await newest(engine)
    async with write_connection(engine) as connection:
        await connection.execute(text("DELETE FROM audit_records WHERE seq > 20"))
        await connection.execute(text("DELETE FROM audit_checkpoints"))
        last = select(RECORDS.c.hash).where(RECORDS.c.seq == 20).scalar_subquery()
        await connection.execute(update(HEAD).values(seq=20, hash=last))
    alone, shown = await verify(engine, master_key=KEY), await verify(engine, master_key=KEY, checkpoints=[kept])
    assert (alone.is_intact, shown.tampering, shown.seq) == (True, Tampering.REMOVED, 21)


async def test_checkpoint_of_another_key_is_refused(redis: Redis, engine: AsyncEngine) -> None:
    await fill(redis, engine, 1, 3)
    with pytest.raises(AuditUnavailable, match="not signed with this AUDIT_KEY"):
        await verify(
            engine, master_key=KEY, checkpoints=[Checkpoint(CheckpointKind.CHECKPOINT, 3, "0" * 64, 1, "0" * 64)]
        )


async def test_another_object_in_a_record_is_found(redis: Redis, engine: AsyncEngine) -> None:
    await fill(redis, engine, 1, 9)
    async with write_connection(engine) as connection:
        await connection.execute(text("UPDATE audit_records SET object_id = '7' WHERE seq = 4"))
    verdict = await verify(engine, master_key=KEY)
    assert (verdict.tampering, verdict.seq) == (Tampering.CHANGED, 4)


@pytest.mark.parametrize("line", ["", "spokes-audit-1", "spokes-audit-1:checkpoint:x:y:z:a", "a:checkpoint:1:a:1:b"])
def test_what_is_no_checkpoint_is_a_sentence(line: str) -> None:
    with pytest.raises(AuditUnavailable, match="not a checkpoint"):
        Checkpoint.from_text(line)


def test_checkpoint_is_read_as_it_was_written() -> None:
    place = Checkpoint(CheckpointKind.CHECKPOINT, 7, "ab", 1).with_signature(b"key")
    assert Checkpoint.from_text(place.to_text()) == place


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_whole_months_are_dropped_as_partitions(redis: Redis, engine: AsyncEngine) -> None:
    await schema.upgrade(engine)
    async with write_connection(engine) as connection:
        await connection.execute(
            text("CREATE TABLE audit_records_202001 PARTITION OF audit_records FOR VALUES IN (202001)")
        )
        default = await connection.scalar(
            text("SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = 'audit_records'::regclass")
        )
        await connection.execute(text("ALTER TABLE audit_records ALTER COLUMN month SET DEFAULT 202001"))
    await fill(redis, engine, 1, 10)
    async with write_connection(engine) as connection:
        await connection.execute(text(f"ALTER TABLE audit_records ALTER COLUMN month SET DEFAULT {default}"))
    await fill(redis, engine, 11, 20)
    assert await purge(engine, KEY, before_ms=15) == 14
    async with read_connection(engine) as connection:
        left = await partitions.names(connection)
        rows = await connection.scalar(select(func.count()).select_from(RECORDS))
    assert ("audit_records_202001" in left, rows, (await verify(engine, master_key=KEY)).is_intact) == (False, 6, True)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_partitions_are_made_ahead(redis: Redis, engine: AsyncEngine) -> None:
    await fill(redis, engine, 1, 1)
    async with read_connection(engine) as connection:
        assert len(await partitions.names(connection)) == 1 + 4  # month 0, this month, three more
    assert await partitions.create_missing(engine) == []


def test_months_run_over_the_year() -> None:
    assert partitions.months(2026, 11, 4) == [202611, 202612, 202701, 202702]
