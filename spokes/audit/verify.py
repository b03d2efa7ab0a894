"""Recompute the chain from the first record. Rule: it only reads, and it says no more than can be told.

A chain that was rewritten from some record to its end, head included, verifies by itself: a signed checkpoint that was
kept outside the database shows it.

What signed places say about a chain. Rule: pure; a signature that is not ours proves nothing but that.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum, unique
from typing import Final, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.chain import GENESIS, chain_hash
from spokes.audit.checkpoints import Checkpoint, load_checkpoints, newest_anchor, signing_key
from spokes.audit.object_hashes import hash_for_row, object_hash_key
from spokes.audit.rows import Row
from spokes.audit.sql.queries import fetch
from spokes.audit.sql.tables import HEAD, RECORDS
from spokes.core.errors import AuditUnavailable


@unique
class Tampering(StrEnum):
    """What was done to a record, as far as its neighbours and signed places tell."""

    CHANGED = "changed"
    REMOVED = "removed"
    INSERTED = "inserted"
    REORDERED = "re-ordered"
    REWRITTEN = "rewritten"  # it, or records before it, with hashes that fit each other but not a signed place


class ChainStart(NamedTuple):
    """Where the records that are left begin: after the record `seq`, whose hash this is."""

    seq: int
    hash: str


class Evidence:
    """The signed places of one chain: those in the store, and those that were kept elsewhere."""

    def __init__(self, stored: Sequence[Checkpoint], external: Sequence[Checkpoint], master_key: str | None) -> None:
        """Weigh them; without `master` those inside are taken as they stand."""
        anchor = newest_anchor(stored)
        self.start = ChainStart(anchor.seq, anchor.hash) if anchor else ChainStart(0, GENESIS)
        self._checkpoints: dict[int, list[Checkpoint]] = {}
        for place in (*stored, *external):
            self._checkpoints.setdefault(place.seq, []).append(place)
        self.last_seq = max(self._checkpoints, default=0)
        self.problem = self._first_forged_checkpoint(stored, master_key) or self._start_contradiction()

    def contradiction(self, seq: int, hash_: str) -> str:
        """Return what a signed place that knows the record `seq` with another hash tells; empty if none does."""
        for place in self._checkpoints.get(seq, ()):
            if place.hash != hash_:
                when = datetime.fromtimestamp(place.at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
                return f"The chain was rewritten up to record {seq}: its {place.kind} of {when} UTC has another hash."
        return ""

    def _first_forged_checkpoint(
        self, stored: Sequence[Checkpoint], master_key: str | None
    ) -> tuple[int, Tampering, str] | None:
        if master_key is None:
            return None
        key = signing_key(master_key)
        for place in stored:
            if not place.is_genuine(key):
                told = f"The {place.kind} of record {place.seq} was not signed with this AUDIT_KEY."
                return place.seq, Tampering.REWRITTEN, told
        return None

    def _start_contradiction(self) -> tuple[int, Tampering, str] | None:
        told = self.contradiction(*self.start)
        return (self.start.seq, Tampering.REWRITTEN, told) if told else None


def require_genuine(checkpoints: Sequence[Checkpoint], key: bytes) -> None:
    """Insist that places kept elsewhere are ours.

    Raises:
        AuditUnavailable: one was not signed with `key`.
    """
    for place in checkpoints:
        if not place.is_genuine(key):
            raise AuditUnavailable(f"The checkpoint of record {place.seq} was not signed with this AUDIT_KEY.")


_PAGE: Final = 2000  # rows
Progress = Callable[[int, int], None]  # records seen so far, records there are


@dataclass(frozen=True, slots=True)
class VerificationResult:
    """What `verify` found: `seq` is the first record that is broken or missing, None when the chain is intact."""

    records: int  # how many were found in their place
    hash: str  # of the last of them
    seq: int | None = None
    tampering: Tampering | None = None
    sentence: str = ""

    @property
    def is_intact(self) -> bool:
        """Whether every record is as it was archived."""
        return self.tampering is None

    def as_dict(self) -> dict[str, object]:
        """Return the verdict, ready for JSON."""
        return {"intact": self.is_intact, **asdict(self)}


@dataclass(frozen=True, slots=True)
class _ChainEnd:
    """The chain's end as the store states it, all read at one moment."""

    seq: int
    hash: str
    count: int
    last_seq: int
    start_seq: int  # the last record that retention has purged; 0 when the chain is whole

    def count_through(self, seq: int) -> int:
        """How many records there are up to `seq`."""
        return seq - self.start_seq


async def verify(
    engine: AsyncEngine,
    progress: Progress | None = None,
    *,
    master_key: str | None = None,
    checkpoints: Sequence[Checkpoint] = (),
) -> VerificationResult:
    """Walk the chain from its first record to its head, in constant memory.

    Args:
        progress: told now and then.
        master: `Settings.master_key()`; without it signatures and hashes of ids are taken as they stand.
        checkpoints: signed places that were kept outside the database.

    Raises:
        AuditUnavailable: the store does not answer, or one of `checkpoints` was not signed with this key.
    """
    if master_key is not None:
        require_genuine(checkpoints, signing_key(master_key))
    while True:
        places = await load_checkpoints(engine)
        verdict = await _verify_once(engine, progress, master_key, Evidence(places, checkpoints, master_key))
        if verdict.is_intact or newest_anchor(await load_checkpoints(engine)) == newest_anchor(places):
            return verdict
        # Retention has purged what was about to be read: begin again behind its new anchor.


async def _verify_once(
    engine: AsyncEngine, progress: Progress | None, master_key: str | None, evidence: Evidence
) -> VerificationResult:
    if evidence.problem is not None:
        return VerificationResult(0, GENESIS, *evidence.problem)
    start = evidence.start
    end = await _read_end(engine, start)
    key = None if master_key is None else object_hash_key(master_key)
    before, previous = start.hash, start.hash  # the hashes two places and one place before the row
    expected = start.seq + 1
    async for row in _stream_rows(engine, after=None):
        if expected > end.seq:
            break
        if row["seq"] != expected or chain_hash(previous, row) != row["hash"]:
            return await _diagnose(engine, end, row, expected, (before, previous))
        before, previous = previous, str(row["hash"])
        if key and row["object_hash"] and (hash_for_row(key, row) or row["object_hash"]) != row["object_hash"]:
            told = f"Record {expected} was changed: it names another object than the one it was written for."
            return VerificationResult(end.count_through(expected - 1), before, expected, Tampering.CHANGED, told)
        if told := evidence.contradiction(expected, previous):
            return VerificationResult(end.count_through(expected - 1), before, expected, Tampering.REWRITTEN, told)
        if progress and (expected % _PAGE == 0 or expected == end.seq):
            progress(end.count_through(expected), end.count_through(end.seq))
        expected += 1
    return _check_end(end, evidence, expected - 1, previous)


def _check_end(end: _ChainEnd, evidence: Evidence, last: int, previous: str) -> VerificationResult:
    """Tell whether the chain ends where it should; every record up to `last` is in its place."""
    done = end.count_through(last)
    if last < end.seq:
        told = f"Record {last + 1} and all after it are missing."
        return VerificationResult(done, previous, last + 1, Tampering.REMOVED, told)
    if end.last_seq > end.seq:
        told = f"Record {end.last_seq} stands after the end of the chain, which is {end.seq}."
        return VerificationResult(done, previous, end.seq + 1, Tampering.INSERTED, told)
    if previous != end.hash:
        told = f"Record {last} was changed and got a fitting hash, which is not the one the end of the chain has."
        return VerificationResult(done, previous, last, Tampering.CHANGED, told)
    if evidence.last_seq > last:
        told = f"The chain was cut off after record {last}: a checkpoint has seen record {evidence.last_seq}."
        return VerificationResult(done, previous, last + 1, Tampering.REMOVED, told)
    return VerificationResult(done, previous, sentence=f"The chain is intact: {done:,} records, last hash {previous}.")


async def _diagnose(
    engine: AsyncEngine, end: _ChainEnd, row: Row, expected: int, hashes: tuple[str, str]
) -> VerificationResult:
    """Tell what happened to `row`, the first that does not follow, from what the rows after it follow on."""
    before, previous = hashes
    done = end.count_through(expected - 1)
    if done and chain_hash(before, row) == row["hash"]:
        told = f"Record {expected - 1} was inserted: the one after it follows on the one before it."
        return VerificationResult(done - 1, before, expected - 1, Tampering.INSERTED, told)
    belongs: Row | None = None  # the record whose place this is
    follows = False  # the very next row is that record, whole
    fits_later = False  # `row` itself follows on a record that now stands after it
    first = True
    async for later in _stream_rows(engine, after=row):
        here = chain_hash(previous, later)
        if belongs is None and here in {later["hash"], row["hash"]}:
            belongs, follows = later, first and here == later["hash"]
        fits_later = fits_later or chain_hash(str(later["hash"]), row) == row["hash"]
        first = False
    if belongs is not None and (fits_later or not follows):
        told = f"Records were re-ordered: what belongs at {expected} stands at {belongs['seq']}."
        return VerificationResult(done, previous, expected, Tampering.REORDERED, told)
    tampering, told = _classify(end, row, expected, previous, next_row_fits=follows)
    return VerificationResult(done, previous, min(expected, int(row["seq"] or 0)), tampering, told)


def _classify(end: _ChainEnd, row: Row, expected: int, previous: str, *, next_row_fits: bool) -> tuple[Tampering, str]:
    """Tell what happened where no record stands in another's place; `pushed_on`: the next row belongs here."""
    seq = row["seq"]
    if next_row_fits:
        return Tampering.INSERTED, f"Record {seq} was inserted: the one after it follows on the one before it."
    if chain_hash(previous, row) == row["hash"]:
        return Tampering.CHANGED, f"The number of record {expected} was changed to {seq}."
    if seq != expected:
        return Tampering.REMOVED, f"Records are missing: {expected} is, and the next that is there is {seq}."
    if end.count < end.count_through(end.seq):
        return Tampering.REMOVED, f"A record is missing before what now stands at {seq}; the rest was renumbered."
    or_else = ", or the one before it was and got a fitting hash" if end.count_through(expected) > 1 else ""
    return Tampering.CHANGED, f"Record {seq} was changed{or_else}."


async def _read_end(engine: AsyncEngine, start: ChainStart) -> _ChainEnd:
    count, last = (
        select(what).select_from(RECORDS).scalar_subquery() for what in (func.count(), func.max(RECORDS.c.seq))
    )
    [row] = await fetch(
        engine,
        select(count.label("count"), last.label("last")).add_columns(
            *(select(column).scalar_subquery().label(column.name) for column in (HEAD.c.seq, HEAD.c.hash))
        ),
    )
    # A head that is gone is an end nobody remembers: every record then stands after it.
    numbers = (int(row["count"] or 0), int(row["last"] or 0))
    return _ChainEnd(int(row["seq"] or 0), str(row["hash"] or GENESIS), *numbers, start.seq)


async def _stream_rows(engine: AsyncEngine, *, after: Row | None) -> AsyncIterator[Row]:
    query = select(RECORDS).order_by(RECORDS.c.seq).limit(_PAGE)
    page = query if after is None else query.where(RECORDS.c.seq > after["seq"])
    while rows := await fetch(engine, page):
        for row in rows:
            yield row
        page = query.where(RECORDS.c.seq > rows[-1]["seq"])
