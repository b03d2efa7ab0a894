"""Purge records that were kept for their time. Rule: a prefix of the chain goes, and a signed anchor stands for it.

The anchor names the last record that is gone and its hash, so the chain verifies from there. It is written in the
transaction that purges, so whatever stops a purge, the next one goes on from where it came to.
"""

from typing import Final

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from spokes.audit.checkpoints import Checkpoint, CheckpointKind, signing_key, store_checkpoint
from spokes.audit.sql import partitions
from spokes.audit.sql.engine import write_connection
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import CHECKPOINTS, HEAD, RECORDS
from spokes.core import clock

_BATCH_SIZE: Final = 5_000  # records; a transaction that holds the head keeps the archiver waiting


async def purge(engine: AsyncEngine, master_key: str, *, before_ms: int, batch_size: int = _BATCH_SIZE) -> int:
    """Purge the records from before the epoch ms `before`; return how many.

    What was archived before the first record that has to be kept goes, so a record that came late by some seconds may
    go or stay for some seconds.

    Raises:
        AuditUnavailable: the store does not answer; what is purged by then stays purged.
    """
    first = await _first_kept_seq(engine, before_ms)
    purged = await _drop_partitions(engine, master_key, first)
    while count := await _purge_batch(engine, master_key, first, batch_size):
        purged += count
    return purged


async def _first_kept_seq(engine: AsyncEngine, before_ms: int) -> int:
    """The first record to be kept; the one after the last where none is."""
    query = select(RECORDS.c.seq).where(RECORDS.c.at >= before_ms).order_by(RECORDS.c.at, RECORDS.c.seq).limit(1)
    if found := await fetch(engine, query):
        return int(found[0]["seq"] or 0)
    [head] = await fetch(engine, select(HEAD.c.seq))
    return int(head["seq"] or 0) + 1


async def _drop_partitions(engine: AsyncEngine, master_key: str, first_kept: int) -> int:
    if engine.dialect.name != "postgresql":
        return 0
    async with write_connection(engine) as connection:
        await connection.execute(select(HEAD.c.seq).with_for_update())
        passed = await partitions.expired_before(connection, first_kept)
        if last := max((part.last_seq for part in passed), default=0):
            await _move_anchor(connection, master_key, last)
        await partitions.drop(connection, passed)
    return sum(part.records for part in passed)


async def _purge_batch(engine: AsyncEngine, master_key: str, first_kept: int, batch_size: int) -> int:
    async with write_connection(engine) as connection:
        await connection.execute(select(HEAD.c.seq).with_for_update())
        oldest = await connection.scalar(select(func.min(RECORDS.c.seq)))
        if oldest is None or oldest >= first_kept:
            return 0
        last = min(oldest + batch_size, first_kept) - 1
        await _move_anchor(connection, master_key, last)
        return (await connection.execute(delete(RECORDS).where(RECORDS.c.seq <= last))).rowcount


async def _move_anchor(connection: AsyncConnection, master_key: str, seq: int) -> None:
    """Put the anchor at a record that is about to go; checkpoints before it have nothing left to vouch for."""
    place = select(RECORDS.c.seq, RECORDS.c.hash).where(RECORDS.c.seq <= seq).order_by(RECORDS.c.seq.desc()).limit(1)
    seq, hash_ = (await connection.execute(place)).one()
    there = await connection.scalar(
        select(func.max(CHECKPOINTS.c.seq)).where(CHECKPOINTS.c.kind == CheckpointKind.ANCHOR)
    )
    if there is not None and there >= seq:  # a straggler from before it
        return
    await connection.execute(delete(CHECKPOINTS).where(CHECKPOINTS.c.kind == CheckpointKind.ANCHOR))
    await connection.execute(delete(CHECKPOINTS).where(CHECKPOINTS.c.seq < seq))
    anchor = Checkpoint(CheckpointKind.ANCHOR, seq, str(hash_), clock.now_ms())
    await store_checkpoint(connection, anchor.with_signature(signing_key(master_key)))
