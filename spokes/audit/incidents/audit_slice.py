"""The part of the audit chain that belongs to a period, and the proof that it is unchanged.

The part is contiguous: every record from the first to the last one of the period, also those of other times that were
archived between them. Its proof is the hash before it, the hash of each record, and a signed position of its end.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.chain import GENESIS, chain_hash
from spokes.audit.checkpoints import Checkpoint, load_checkpoints
from spokes.audit.rows import Row
from spokes.audit.sql.queries import Filters, fetch
from spokes.audit.sql.tables import RECORDS

_PAGE: Final = 1000  # rows


@dataclass(frozen=True, slots=True)
class SliceBounds:
    """First and last record of a part of the chain, 0 if it is empty, and the hash before it, None if unknown."""

    first_seq: int
    last_seq: int
    previous_hash: str | None


async def find_bounds(engine: AsyncEngine, since: int, until: int | None) -> SliceBounds:
    """Return the bounds of the records of a period.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    period = Filters(since=since, until=until).conditions()
    ends = select(func.min(RECORDS.c.seq).label("first"), func.max(RECORDS.c.seq).label("last")).where(*period)
    [row] = await fetch(engine, ends)
    first, last = int(row["first"] or 0), int(row["last"] or 0)
    if first <= 1:
        return SliceBounds(first, last, GENESIS)
    before = await fetch(engine, select(RECORDS.c.hash).where(RECORDS.c.seq == first - 1))
    if before:
        return SliceBounds(first, last, str(before[0]["hash"]))
    anchors = [each.hash for each in await load_checkpoints(engine) if each.seq == first - 1]
    return SliceBounds(first, last, anchors[0] if anchors else None)


async def slice_rows(engine: AsyncEngine, bounds: SliceBounds) -> AsyncIterator[Row]:
    """Yield the records of the part in the order of the chain.

    Raises:
        AuditUnavailable: the store does not answer.
    """
    after = bounds.first_seq - 1
    query = select(RECORDS).order_by(RECORDS.c.seq).limit(_PAGE)
    while rows := await fetch(engine, query.where(RECORDS.c.seq > after, RECORDS.c.seq <= bounds.last_seq)):
        for row in rows:
            yield row
        after = int(rows[-1]["seq"] or 0)


class SliceCheck:
    """Checks the records of a part one by one; `problem` is a sentence about the first that does not fit."""

    def __init__(self, bounds: SliceBounds, checkpoints: list[Checkpoint]) -> None:
        self._bounds = bounds
        self._hashes = {checkpoint.seq: checkpoint.hash for checkpoint in checkpoints}
        self._expected = bounds.first_seq
        self.last_hash = bounds.previous_hash or ""
        self.records = 0
        self.problem = "" if bounds.previous_hash else "The hash before the first record is unknown."

    def add(self, row: Row) -> None:
        """Check the next record."""
        seq, hash_ = row["seq"], str(row["hash"])
        if not self.problem:
            if seq != self._expected:
                self.problem = f"Record {self._expected} is missing."
            elif chain_hash(self.last_hash, row) != hash_:
                self.problem = f"Record {seq} or the one before it was changed: its hash does not fit."
            elif self._hashes.get(self._expected, hash_) != hash_:
                self.problem = f"Record {seq} or an earlier one was rewritten: its checkpoint has another hash."
        self.last_hash = hash_
        self.records += 1
        self._expected += 1

    def finish(self) -> str:
        """Return the first problem, also that records are missing at the end; empty if there is none."""
        count = self._bounds.last_seq - self._bounds.first_seq + 1 if self._bounds.first_seq else 0
        if not self.problem and self.records != count:
            self.problem = f"Record {self._expected} and all after it are missing."
        return self.problem
