"""Purge records whose retention time is over; a signed anchor replaces the purged start of the chain.

The anchor contains the `seq` and hash of the last purged record, so the chain verifies from there. It is written in
the transaction that purges, so the next purge can continue an interrupted one.
"""

from typing import Final

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from spokes.audit.checkpoints import Checkpoint, CheckpointKind, signing_key, store_checkpoint
from spokes.audit.sql import partitions
from spokes.audit.sql.engine import write_connection
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import CHECKPOINTS, HEAD, RECORDS
from spokes.core.clock import now_ms

_BATCH_SIZE: Final = 5_000  # records; a transaction that locks the head blocks the archiver


async def purge(engine: AsyncEngine, master_key: str, *, before_ms: int, batch_size: int = _BATCH_SIZE) -> int:
    """Purge the records from before an epoch ms; return how many.

    Records are purged in the order of archiving, up to the first one that has to be kept. That order is not exactly the
    order of time, so a record may be purged some seconds early or late.

    Raises:
        AuditUnavailable: the store does not answer; records purged before that stay purged.
    """
    first_kept = await _first_kept_seq(engine, before_ms)
    purged = await _drop_partitions(engine, master_key, first_kept)
    while count := await _purge_batch(engine, master_key, first_kept, batch_size):
        purged += count
    return purged


async def _first_kept_seq(engine: AsyncEngine, before_ms: int) -> int:
    """Return the `seq` of the first record to keep; if there is none, that of the next record to be archived."""
    kept = select(RECORDS.c.seq).where(RECORDS.c.at >= before_ms).order_by(RECORDS.c.at, RECORDS.c.seq).limit(1)
    if rows := await fetch(engine, kept):
        return int(rows[0]["seq"] or 0)
    [head] = await fetch(engine, select(HEAD.c.seq))
    return int(head["seq"] or 0) + 1


async def _drop_partitions(engine: AsyncEngine, master_key: str, first_kept: int) -> int:
    if engine.dialect.name != "postgresql":
        return 0
    async with write_connection(engine) as connection:
        await connection.execute(select(HEAD.c.seq).with_for_update())
        expired = await partitions.expired_before(connection, first_kept)
        if last_seq := max((partition.last_seq for partition in expired), default=0):
            await _move_anchor(connection, master_key, last_seq)
        await partitions.drop(connection, expired)
    return sum(partition.records for partition in expired)


async def _purge_batch(engine: AsyncEngine, master_key: str, first_kept: int, batch_size: int) -> int:
    async with write_connection(engine) as connection:
        await connection.execute(select(HEAD.c.seq).with_for_update())
        oldest = await connection.scalar(select(func.min(RECORDS.c.seq)))
        if oldest is None or oldest >= first_kept:
            return 0
        last_seq = min(oldest + batch_size, first_kept) - 1
        await _move_anchor(connection, master_key, last_seq)
        return (await connection.execute(delete(RECORDS).where(RECORDS.c.seq <= last_seq))).rowcount


async def _move_anchor(connection: AsyncConnection, master_key: str, seq: int) -> None:
    """Move the anchor to the last record up to `seq`; delete the checkpoints before it, whose records are purged."""
    last = select(RECORDS.c.seq, RECORDS.c.hash).where(RECORDS.c.seq <= seq).order_by(RECORDS.c.seq.desc()).limit(1)
    seq, hash_ = (await connection.execute(last)).one()
    is_anchor = CHECKPOINTS.c.kind == CheckpointKind.ANCHOR
    anchor_seq = await connection.scalar(select(func.max(CHECKPOINTS.c.seq)).where(is_anchor))
    if anchor_seq is not None and anchor_seq >= seq:  # a record from before the anchor that was left behind
        return
    await connection.execute(delete(CHECKPOINTS).where(is_anchor))
    await connection.execute(delete(CHECKPOINTS).where(CHECKPOINTS.c.seq < seq))
    anchor = Checkpoint(CheckpointKind.ANCHOR, seq, str(hash_), now_ms())
    await connection.run_sync(store_checkpoint, anchor.with_signature(signing_key(master_key)))
