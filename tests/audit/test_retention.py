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
from spokes.audit.verification.verify import Tampering, verify
from spokes.core.errors import AuditUnavailable
from tests.support.deployment import KEY
from tests.support.events import append_records, record


async def fill(redis: Redis, engine: AsyncEngine, first: int, last: int) -> None:
    """Archive the records with these numbers; record n has the time n (epoch ms)."""
    await append_records(redis, *(record(number, at=number) for number in range(first, last + 1)))
    await Archiver(redis, engine, KEY, checkpoint_every=10).drain()


async def seqs(engine: AsyncEngine) -> list[int]:
    return [int(row["seq"] or 0) for row in await fetch(engine, select(RECORDS.c.seq).order_by(RECORDS.c.seq))]


async def test_old_records_are_purged_and_the_chain_verifies_from_the_anchor(redis: Redis, engine: AsyncEngine) -> None:
    await fill(redis, engine, 1, 25)
    assert await purge(engine, KEY, before_ms=12, batch_size=4) == 11
    result = await verify(engine, master_key=KEY)
    assert (await seqs(engine), result.is_intact, result.records) == (list(range(12, 26)), True, 14)


async def test_all_records_can_be_purged(redis: Redis, engine: AsyncEngine) -> None:
    await fill(redis, engine, 1, 5)
    await purge(engine, KEY, before_ms=100)
    await fill(redis, engine, 101, 102)
    result = await verify(engine, master_key=KEY)
    assert (await seqs(engine), result.is_intact) == ([6, 7], True)


async def test_interrupted_purge_is_continued(
    redis: Redis, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An anchor covers what it purged before the interruption."""
    await fill(redis, engine, 1, 20)
    await purge(engine, KEY, before_ms=4, batch_size=2)
    halfway = await verify(engine, master_key=KEY)
    assert await purge(engine, KEY, before_ms=15, batch_size=2) == 11
    assert (halfway.is_intact, (await verify(engine, master_key=KEY)).is_intact) == (True, True)


async def test_nothing_is_purged_if_nothing_is_old(redis: Redis, engine: AsyncEngine) -> None:
    await fill(redis, engine, 5, 9)
    assert (await purge(engine, KEY, before_ms=5), await purge(engine, KEY, before_ms=1)) == (0, 0)


async def test_removed_start_of_the_chain_is_distinguished_from_a_purge(redis: Redis, engine: AsyncEngine) -> None:
    """An anchor cannot be signed without the key."""
    await fill(redis, engine, 1, 9)
    [fifth] = await fetch(engine, select(RECORDS.c.hash).where(RECORDS.c.seq == 5))
    forged = Checkpoint(CheckpointKind.ANCHOR, 5, str(fifth["hash"]), 1).with_signature(b"another key")
    async with write_connection(engine) as connection:
        await connection.execute(text("DELETE FROM audit_records WHERE seq <= 5"))
        fields = {"kind": forged.kind, "seq": 5, "hash": forged.hash, "at": 1, "signature": forged.signature}
        await connection.execute(CHECKPOINTS.insert().values(**fields))
    result = await verify(engine, master_key=KEY)
    assert (result.tampering, result.seq) == (Tampering.REWRITTEN, 5)


async def rewrite_chain(engine: AsyncEngine, redis: Redis) -> None:
    """Write the whole chain again with one record changed, as an attacker with write access to the database would."""
    async with write_connection(engine) as connection:
        for table in ("audit_records", "audit_checkpoints"):
            await connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - our own names
        await connection.execute(text("UPDATE audit_head SET seq = 0, hash = :genesis"), {"genesis": "0" * 64})
    outcomes = {3: "dead"}
    records = [record(n, at=n, outcome=outcomes.get(n, "processed")) for n in range(1, 25)]
    await append_records(redis, *records)
    await Archiver(redis, engine, KEY, checkpoint_every=1000).drain()


async def newest_checkpoint(engine: AsyncEngine) -> Checkpoint:
    return (await load_checkpoints(engine))[-1]


async def test_checkpoints_are_signed_as_the_chain_grows(redis: Redis, engine: AsyncEngine) -> None:
    for first in (1, 11, 14, 24):
        await fill(redis, engine, first, first + 2)
    assert [checkpoint.seq for checkpoint in await load_checkpoints(engine)] == [3]
    await fill(redis, engine, 27, 29)
    assert [checkpoint.seq for checkpoint in await load_checkpoints(engine)] == [3, 15]


async def test_rewritten_chain_is_detected_by_external_checkpoint(redis: Redis, engine: AsyncEngine) -> None:
    await fill(redis, engine, 1, 24)
    kept = await newest_checkpoint(engine)
    await rewrite_chain(engine, redis)
    alone, shown = await verify(engine, master_key=KEY), await verify(engine, master_key=KEY, checkpoints=[kept])
    assert (alone.is_intact, shown.tampering, shown.seq) == (True, Tampering.REWRITTEN, 24)


async def test_removed_end_of_the_chain_is_detected_by_external_checkpoint(redis: Redis, engine: AsyncEngine) -> None:
    await fill(redis, engine, 1, 12)
    await fill(redis, engine, 13, 24)
    kept = await newest_checkpoint(engine)
    async with write_connection(engine) as connection:
        await connection.execute(text("DELETE FROM audit_records WHERE seq > 20"))
        await connection.execute(text("DELETE FROM audit_checkpoints WHERE seq > 20"))
        last = select(RECORDS.c.hash).where(RECORDS.c.seq == 20).scalar_subquery()
        await connection.execute(update(HEAD).values(seq=20, hash=last))
    alone, shown = await verify(engine, master_key=KEY), await verify(engine, master_key=KEY, checkpoints=[kept])
    assert (alone.is_intact, shown.tampering, shown.seq) == (True, Tampering.REMOVED, 21)


async def test_checkpoint_signed_with_another_key_is_rejected(redis: Redis, engine: AsyncEngine) -> None:
    await fill(redis, engine, 1, 3)
    with pytest.raises(AuditUnavailable, match="not signed with this AUDIT_KEY"):
        await verify(
            engine, master_key=KEY, checkpoints=[Checkpoint(CheckpointKind.CHECKPOINT, 3, "0" * 64, 1, "0" * 64)]
        )


async def test_replaced_object_id_is_detected(redis: Redis, engine: AsyncEngine) -> None:
    await fill(redis, engine, 1, 9)
    async with write_connection(engine) as connection:
        await connection.execute(text("UPDATE audit_records SET object_id = '7' WHERE seq = 4"))
    result = await verify(engine, master_key=KEY)
    assert (result.tampering, result.seq) == (Tampering.CHANGED, 4)


@pytest.mark.parametrize("line", ["", "spokes-audit-1", "spokes-audit-1:checkpoint:x:y:z:a", "a:checkpoint:1:a:1:b"])
def test_malformed_checkpoint_is_rejected_with_a_sentence(line: str) -> None:
    with pytest.raises(AuditUnavailable, match="not a checkpoint"):
        Checkpoint.from_text(line)


def test_checkpoint_survives_a_round_trip_through_text() -> None:
    checkpoint = Checkpoint(CheckpointKind.CHECKPOINT, 7, "ab", 1).with_signature(b"key")
    assert Checkpoint.from_text(checkpoint.to_text()) == checkpoint


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
async def test_partitions_are_created_ahead(redis: Redis, engine: AsyncEngine) -> None:
    await fill(redis, engine, 1, 1)
    async with read_connection(engine) as connection:
        assert len(await partitions.names(connection)) == 1 + 4  # month 0, this month, three more
    assert await partitions.create_missing(engine) == []


def test_months_continue_into_the_next_year() -> None:
    assert partitions.months(2026, 11, 4) == [202611, 202612, 202701, 202702]
