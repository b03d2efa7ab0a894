"""Recompute the chain from its first record and compare it with its signed positions. Only reads.

A chain that was rewritten from some record to its end, head included, is consistent in itself. Only a checkpoint that
was kept outside the database reveals it.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum, unique
from typing import Final, NamedTuple, TypeAlias

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.chain import GENESIS, chain_hash
from spokes.audit.checkpoints import Checkpoint, CheckpointKind, load_checkpoints, newest_anchor, signing_key
from spokes.audit.evidence.chain_end import KnownEnd
from spokes.audit.object_hashes import hash_for_row, object_hash_key
from spokes.audit.records import Action
from spokes.audit.rows import Row
from spokes.audit.sql.queries import fetch, unsigned_until
from spokes.audit.sql.tables import HEAD, RECORDS
from spokes.core.errors import AuditUnavailable


@unique
class Tampering(StrEnum):
    """What was done to a record, as far as its neighbours and the signed positions show."""

    CHANGED = "changed"
    REMOVED = "removed"
    INSERTED = "inserted"
    REORDERED = "re-ordered"
    FORGED = "forged"  # an entry of the stream that was not signed with our key; it was not archived
    REWRITTEN = "rewritten"  # this record or earlier ones: the hashes form a chain, but not that of a signed position


class ChainStart(NamedTuple):
    """Where the remaining records begin: after the record `seq`, which had this hash."""

    seq: int
    hash: str


_Problem: TypeAlias = tuple[int, Tampering, str]  # the record, what was done, and a sentence


class Evidence:
    """The signed positions of one chain: those in the store, and those kept outside it. Pure."""

    def __init__(
        self,
        stored: Sequence[Checkpoint],
        external: Sequence[Checkpoint],
        master_key: str | None,
        known: KnownEnd,
        unlinked_until: int,
    ) -> None:
        """Check the positions; without `master_key`, the stored ones are not.

        Args:
            stored: in the store.
            external: kept outside the store.
            master_key: `load_master_key`.
            known: what Redis keeps.
            unlinked_until: epoch ms until which checkpoints of earlier versions were stored, which name no other one.
        """
        anchor = newest_anchor(stored)
        self.start = ChainStart(anchor.seq, anchor.hash) if anchor else ChainStart(0, GENESIS)
        self._checkpoints: dict[int, list[Checkpoint]] = {}
        for checkpoint in (*stored, *external, *known.positions):
            self._checkpoints.setdefault(checkpoint.seq, []).append(checkpoint)
        self.last_seq = max(self._checkpoints, default=0)
        self.last_stored_seq = max((checkpoint.seq for checkpoint in stored), default=0)
        self.problem = self._start_contradiction()
        if master_key is not None:
            self.problem = (
                _first_forged_checkpoint(stored, master_key)
                or _first_missing_checkpoint(stored, signing_key(master_key), known, unlinked_until)
                or self.problem
            )

    def contradiction(self, seq: int, hash_: str) -> str:
        """Return a sentence if a signed position of record `seq` has another hash than `hash_`, else an empty text."""
        for checkpoint in self._checkpoints.get(seq, ()):
            if checkpoint.hash != hash_:
                at = datetime.fromtimestamp(checkpoint.at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
                return (
                    f"The chain was rewritten up to record {seq}: its {checkpoint.kind} of {at} UTC has another hash."
                )
        return ""

    def _start_contradiction(self) -> _Problem | None:
        sentence = self.contradiction(*self.start)
        return (self.start.seq, Tampering.REWRITTEN, sentence) if sentence else None


def _first_forged_checkpoint(stored: Sequence[Checkpoint], master_key: str) -> _Problem | None:
    key = signing_key(master_key)
    for checkpoint in stored:
        if not checkpoint.is_genuine(key):
            sentence = f"The {checkpoint.kind} of record {checkpoint.seq} was not signed with this AUDIT_KEY."
            return checkpoint.seq, Tampering.REWRITTEN, sentence
    return None


def _first_missing_checkpoint(
    stored: Sequence[Checkpoint], key: bytes, known: KnownEnd, unlinked_until: int
) -> _Problem | None:
    """Return the first checkpoint that another one, or Redis, names and that is not stored."""
    anchor = newest_anchor(stored)
    start_seq = anchor.seq if anchor else 0  # checkpoints before it were purged with their records
    stored_seqs = {checkpoint.seq for checkpoint in stored}
    for checkpoint in stored:
        previous = checkpoint.previous
        if checkpoint.kind is CheckpointKind.ANCHOR or (previous is None and checkpoint.at < unlinked_until):
            continue
        if previous is None or not checkpoint.is_link_genuine(key):
            sentence = f"The checkpoint of record {checkpoint.seq} was changed: it does not name the one before it."
            return checkpoint.seq, Tampering.REWRITTEN, sentence
        if previous > start_seq and previous not in stored_seqs:
            return previous, Tampering.REMOVED, f"The checkpoint of record {previous} is missing."
    if known.newest and known.newest.seq > start_seq and known.newest.seq not in stored_seqs:
        seq = known.newest.seq
        return seq, Tampering.REMOVED, f"The checkpoint of record {seq}, the newest that Redis knows, is missing."
    return None


def require_genuine(checkpoints: Sequence[Checkpoint], key: bytes) -> None:
    """Check the signatures of checkpoints kept outside the database.

    Raises:
        AuditUnavailable: one was not signed with `key`.
    """
    for checkpoint in checkpoints:
        if not checkpoint.is_genuine(key):
            raise AuditUnavailable(f"The checkpoint of record {checkpoint.seq} was not signed with this AUDIT_KEY.")


_PAGE: Final = 2000  # rows
Progress = Callable[[int, int], None]  # records read so far, records in total


@dataclass(frozen=True, slots=True)
class VerificationResult:
    """The result of `verify`: `seq` is the first record that is broken or missing, None if the chain is intact."""

    records: int  # how many are intact, up to the first problem
    hash: str  # of the last of them
    seq: int | None = None
    tampering: Tampering | None = None
    sentence: str = ""

    @property
    def is_intact(self) -> bool:
        """Whether every record is as it was archived."""
        return self.tampering is None

    def as_dict(self) -> dict[str, object]:
        """Return the result, ready for JSON."""
        return {"intact": self.is_intact, **asdict(self)}


@dataclass(frozen=True, slots=True)
class _ChainEnd:
    """The chain's end according to the store, all read in one statement."""

    seq: int
    hash: str
    count: int  # rows in the table
    last_seq: int
    start_seq: int  # the last record that retention purged; 0 if none was

    def count_through(self, seq: int) -> int:
        """Return how many records the chain has up to `seq`."""
        return seq - self.start_seq


async def verify(
    engine: AsyncEngine,
    progress: Progress | None = None,
    *,
    master_key: str | None = None,
    checkpoints: Sequence[Checkpoint] = (),
    known: KnownEnd = KnownEnd(),  # noqa: B008 - immutable
    checkpoint_every: int | None = None,
    investigated_seq: int = 0,
) -> VerificationResult:
    """Read the chain from its first record to its head, in constant memory.

    Args:
        progress: called after each page.
        master_key: `load_master_key`; without it, signatures and object hashes are not checked.
        checkpoints: signed positions that were kept outside the database.
        known: the positions that Redis keeps.
        checkpoint_every: CHECKPOINT_EVERY; without it, missing checkpoints at the end are found by `known` only.
        investigated_seq: up to this record, forged stream entries are not reported.

    Raises:
        AuditUnavailable: the store does not answer, or one of `checkpoints` was not signed with this key.
    """
    if master_key is not None:
        require_genuine(checkpoints, signing_key(master_key))
    unlinked_until = await unsigned_until(engine)
    while True:
        stored = await load_checkpoints(engine)
        evidence = Evidence(stored, checkpoints, master_key, known, unlinked_until)
        result = await _verify_once(engine, progress, master_key, evidence)
        if result.is_intact and master_key is not None:
            result = await _check_signed_part(engine, result, evidence, checkpoint_every)
        if result.is_intact:
            return await _report_forged(engine, result, investigated_seq)
        if newest_anchor(await load_checkpoints(engine)) == newest_anchor(stored):
            return result
        # Retention purged records before they were read: start again after its new anchor.


async def _check_signed_part(
    engine: AsyncEngine, result: VerificationResult, evidence: Evidence, checkpoint_every: int | None
) -> VerificationResult:
    """Return the result for an intact chain: is as much of it signed as the archiver signs?

    It signs the first record, and then the chain's end whenever CHECKPOINT_EVERY records follow the last checkpoint.
    """
    last_stored = evidence.last_stored_seq
    end_seq = evidence.start.seq + result.records
    unsigned = end_seq - last_stored
    if result.records and not last_stored:
        sentence = "All checkpoints are missing."
    elif checkpoint_every is not None and unsigned >= max(checkpoint_every, 1) and result.records:
        sentence = (
            f"Checkpoints after record {last_stored} are missing: {unsigned:,} records follow, and CHECKPOINT_EVERY is "
            f"{checkpoint_every:,}. If it was lowered since the last record, `spokes audit checkpoint` signs the end."
        )
    else:
        return result
    # A checkpoint that was stored since this run began is no evidence against the chain.
    if max((checkpoint.seq for checkpoint in await load_checkpoints(engine)), default=0) > last_stored:
        return result
    return replace(result, seq=last_stored + 1, tampering=Tampering.REMOVED, sentence=sentence)


async def _report_forged(engine: AsyncEngine, result: VerificationResult, investigated_seq: int) -> VerificationResult:
    forged = (RECORDS.c.action == Action.STREAM_FORGED) & (RECORDS.c.seq > investigated_seq)
    seqs = select(RECORDS.c.seq).where(forged).order_by(RECORDS.c.seq)
    if not (rows := await fetch(engine, seqs)):
        return result
    seq = int(rows[0]["seq"] or 0)
    sentence = (
        f"{result.sentence} But {len(rows)} forged entries were found in the audit stream and not archived; the "
        f"first is record {seq}. After you have investigated, pass --investigated with the number of the last one."
    )
    return replace(result, seq=seq, tampering=Tampering.FORGED, sentence=sentence)


async def _verify_once(
    engine: AsyncEngine, progress: Progress | None, master_key: str | None, evidence: Evidence
) -> VerificationResult:
    if evidence.problem is not None:
        return VerificationResult(0, GENESIS, *evidence.problem)
    start = evidence.start
    end = await _read_end(engine, start)
    key = None if master_key is None else object_hash_key(master_key)
    before, previous = start.hash, start.hash  # the hashes of the last two records before the row
    expected = start.seq + 1
    async for row in _stream_rows(engine, after=None):
        if expected > end.seq:
            break
        if row["seq"] != expected or chain_hash(previous, row) != row["hash"]:
            return await _diagnose(engine, end, row, expected, (before, previous))
        before, previous = previous, str(row["hash"])
        if key and row["object_hash"] and (hash_for_row(key, row) or row["object_hash"]) != row["object_hash"]:
            sentence = f"Record {expected} was changed: it names another object than the one it was written for."
            return VerificationResult(end.count_through(expected - 1), before, expected, Tampering.CHANGED, sentence)
        if sentence := evidence.contradiction(expected, previous):
            return VerificationResult(end.count_through(expected - 1), before, expected, Tampering.REWRITTEN, sentence)
        if progress and (expected % _PAGE == 0 or expected == end.seq):
            progress(end.count_through(expected), end.count_through(end.seq))
        expected += 1
    return _check_end(end, evidence, expected - 1, previous)


def _check_end(end: _ChainEnd, evidence: Evidence, last: int, previous: str) -> VerificationResult:
    """Return the result for a chain whose records up to `last` are intact: does it end where it should?"""
    done = end.count_through(last)
    if last < end.seq:
        sentence = f"Record {last + 1} and all after it are missing."
        return VerificationResult(done, previous, last + 1, Tampering.REMOVED, sentence)
    if end.last_seq > end.seq:
        sentence = f"Record {end.last_seq} comes after the end of the chain, which is record {end.seq}."
        return VerificationResult(done, previous, end.seq + 1, Tampering.INSERTED, sentence)
    if previous != end.hash:
        sentence = f"Record {last} was changed and its hash recomputed: the head of the chain has another hash."
        return VerificationResult(done, previous, last, Tampering.CHANGED, sentence)
    if evidence.last_seq > last:
        sentence = f"The chain was cut off after record {last}: there is a checkpoint of record {evidence.last_seq}."
        return VerificationResult(done, previous, last + 1, Tampering.REMOVED, sentence)
    return VerificationResult(done, previous, sentence=f"The chain is intact: {done:,} records, last hash {previous}.")


async def _diagnose(
    engine: AsyncEngine, end: _ChainEnd, row: Row, expected: int, hashes: tuple[str, str]
) -> VerificationResult:
    """Determine what happened to `row`, the first that breaks the chain, from the rows after it."""
    before, previous = hashes
    done = end.count_through(expected - 1)
    if done and chain_hash(before, row) == row["hash"]:
        sentence = f"Record {expected - 1} was inserted: the record after it continues the chain from the one before."
        return VerificationResult(done - 1, before, expected - 1, Tampering.INSERTED, sentence)
    belongs_here: Row | None = None  # the record that belongs at this position
    next_row_fits = False  # the very next row is that record, unchanged
    fits_later = False  # `row` itself continues from a record that is now after it
    is_next = True
    async for later in _stream_rows(engine, after=row):
        hash_here = chain_hash(previous, later)
        if belongs_here is None and hash_here in {later["hash"], row["hash"]}:
            belongs_here, next_row_fits = later, is_next and hash_here == later["hash"]
        fits_later = fits_later or chain_hash(str(later["hash"]), row) == row["hash"]
        is_next = False
    if belongs_here is not None and (fits_later or not next_row_fits):
        sentence = f"Records were re-ordered: the record that belongs at {expected} is at {belongs_here['seq']}."
        return VerificationResult(done, previous, expected, Tampering.REORDERED, sentence)
    tampering, sentence = _classify(end, row, expected, previous, next_row_fits=next_row_fits)
    return VerificationResult(done, previous, min(expected, int(row["seq"] or 0)), tampering, sentence)


def _classify(end: _ChainEnd, row: Row, expected: int, previous: str, *, next_row_fits: bool) -> tuple[Tampering, str]:
    """Return what happened to a row if no record is at another's position, with a sentence."""
    seq = row["seq"]
    if next_row_fits:
        sentence = f"Record {seq} was inserted: the record after it continues the chain from the one before."
        return Tampering.INSERTED, sentence
    if chain_hash(previous, row) == row["hash"]:
        return Tampering.CHANGED, f"The number of record {expected} was changed to {seq}."
    if seq != expected:
        return Tampering.REMOVED, f"Records are missing from {expected} on; the next one that exists is {seq}."
    if end.count < end.count_through(end.seq):
        return Tampering.REMOVED, f"A record before {seq} is missing, and those after it were renumbered."
    or_previous = (
        ", or the previous record was changed and its hash recomputed" if end.count_through(expected) > 1 else ""
    )
    return Tampering.CHANGED, f"Record {seq} was changed{or_previous}."


async def _read_end(engine: AsyncEngine, start: ChainStart) -> _ChainEnd:
    count, last = (
        select(aggregate).select_from(RECORDS).scalar_subquery()
        for aggregate in (func.count(), func.max(RECORDS.c.seq))
    )
    [row] = await fetch(
        engine,
        select(count.label("count"), last.label("last")).add_columns(
            *(select(column).scalar_subquery().label(column.name) for column in (HEAD.c.seq, HEAD.c.hash))
        ),
    )
    # If the head is missing, the chain ends at 0, so every record comes after its end.
    numbers = (int(row["count"] or 0), int(row["last"] or 0))
    return _ChainEnd(int(row["seq"] or 0), str(row["hash"] or GENESIS), *numbers, start.seq)


async def _stream_rows(engine: AsyncEngine, *, after: Row | None) -> AsyncIterator[Row]:
    query = select(RECORDS).order_by(RECORDS.c.seq).limit(_PAGE)
    page = query if after is None else query.where(RECORDS.c.seq > after["seq"])
    while rows := await fetch(engine, page):
        for row in rows:
            yield row
        page = query.where(RECORDS.c.seq > rows[-1]["seq"])
