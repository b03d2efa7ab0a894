from pathlib import Path

import pytest
from sqlalchemy import delete, insert, update
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.chain import GENESIS, chain_hash, chain_rows
from spokes.audit.rows import Row, to_row
from spokes.audit.sql import schema
from spokes.audit.sql.engine import write_connection
from spokes.audit.sql.tables import HEAD, RECORDS
from spokes.audit.verification.verify import Tampering, VerificationResult, verify
from tests.support.events import record

ORIGINAL = chain_rows([to_row(record(number).as_dict()) for number in range(1, 10)], 0, GENESIS)


async def verify_rows(engine: AsyncEngine, rows: list[Row]) -> VerificationResult:
    """Verify a store that contains `rows` in place of the original ones."""
    await schema.upgrade(engine)
    async with write_connection(engine) as connection:
        await connection.execute(delete(RECORDS))
        if rows:
            await connection.execute(insert(RECORDS), rows)
        await connection.execute(update(HEAD).values(seq=ORIGINAL[-1]["seq"], hash=ORIGINAL[-1]["hash"]))
    return await verify(engine)


def renumbered(*rows: Row) -> list[Row]:
    return [{**row, "seq": seq} for seq, row in enumerate(rows, start=1)]


def invented(previous: Row) -> Row:
    """Return an invented record whose hash continues the chain after `previous`."""
    row = to_row(record(77).as_dict())
    return {"seq": 0, "hash": chain_hash(str(previous["hash"]), row), **row}


def forged(row: Row) -> Row:
    """Return a changed record with its hash recomputed."""
    changed = {**row, "outcome": "dead"}
    return {**changed, "hash": chain_hash(str(ORIGINAL[int(row["seq"] or 0) - 2]["hash"]), changed)}


def swapped_contents(first: Row, second: Row) -> list[Row]:
    position = ("seq", "hash")
    return [
        {**second, **{name: first[name] for name in position}},
        {**first, **{name: second[name] for name in position}},
    ]


H = ORIGINAL
CHANGED, REMOVED, INSERTED, REORDERED, FORGED, REWRITTEN = Tampering
TAMPERED = {
    "content changed": ([*H[:4], {**H[4], "outcome": "dead"}, *H[5:]], 5, CHANGED),
    "content emptied": ([*H[:4], {**H[4], "handler": None}, *H[5:]], 5, CHANGED),
    "hash changed": ([*H[:4], {**H[4], "hash": "0" * 64}, *H[5:]], 5, CHANGED),
    "first changed": ([{**H[0], "outcome": "dead"}, *H[1:]], 1, CHANGED),
    "changed with a recomputed hash": ([*H[:4], forged(H[4]), *H[5:]], 6, CHANGED),
    "last changed with a recomputed hash": ([*H[:8], forged(H[8])], 9, CHANGED),
    "number changed": ([*H[:8], {**H[8], "seq": 12}], 9, CHANGED),
    "one removed": ([*H[:4], *H[5:]], 5, REMOVED),
    "several removed": ([*H[:4], *H[7:]], 5, REMOVED),
    "first removed": (H[1:], 1, REMOVED),
    "last removed": (H[:8], 9, REMOVED),
    "all removed": ([], 1, REMOVED),
    "removed and renumbered": (renumbered(*H[:4], *H[5:]), 5, REMOVED),
    "inserted": (renumbered(*H[:4], {**invented(H[3]), "hash": "0" * 64}, *H[4:]), 5, INSERTED),
    "inserted with a recomputed hash": (renumbered(*H[:4], invented(H[3]), *H[4:]), 5, INSERTED),
    "inserted before the first": ([{**invented(H[0]), "hash": "0" * 64}, *H], 0, INSERTED),
    "appended": (renumbered(*H, invented(H[8])), 10, INSERTED),
    "neighbours swapped": (renumbered(*H[:4], H[5], H[4], *H[6:]), 5, REORDERED),
    "neighbours' contents swapped": ([*H[:4], *swapped_contents(H[4], H[5]), *H[6:]], 5, REORDERED),
    "far ones swapped": (renumbered(*H[:2], H[6], *H[3:6], H[2], *H[7:]), 3, REORDERED),
    "moved forward": (renumbered(*H[:2], *H[3:7], H[2], *H[7:]), 3, REORDERED),
    "moved back": (renumbered(*H[:2], H[6], *H[2:6], *H[7:]), 3, REORDERED),
    "moved to the end": ([*H[:2], *H[3:], {**H[2], "seq": 10}], 3, REORDERED),
}


async def test_untouched_chain_is_intact(engine: AsyncEngine) -> None:
    result = await verify_rows(engine, ORIGINAL)
    assert (result.is_intact, result.records, result.hash) == (True, 9, ORIGINAL[-1]["hash"])


async def test_empty_store_is_intact(engine: AsyncEngine) -> None:
    await schema.upgrade(engine)
    assert (await verify(engine)).is_intact


async def test_kinds_of_tampering_are_distinguished(engine: AsyncEngine) -> None:
    """Each kind alone; the result names the first broken record."""
    results = {}
    for kind, (rows, _, _) in TAMPERED.items():
        result = await verify_rows(engine, rows)
        results[kind] = (result.seq, result.tampering)
    assert results == {kind: (seq, tampering) for kind, (_, seq, tampering) in TAMPERED.items()}


async def test_chain_longer_than_a_page_is_read_to_its_end(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spokes.audit.verification.verify._PAGE", 4)
    assert (await verify_rows(engine, ORIGINAL)).records == 9


async def test_progress_reaches_the_number_of_records(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spokes.audit.verification.verify._PAGE", 4)
    await verify_rows(engine, ORIGINAL)
    calls: list[tuple[int, int]] = []
    await verify(engine, lambda done, total: calls.append((done, total)))
    assert calls == [(4, 9), (8, 9), (9, 9)]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_flipped_bit_in_the_file_is_located(engine: AsyncEngine, tmp_path: Path) -> None:
    rows = chain_rows([to_row(record(n, handler=f"handler.number{n}").as_dict()) for n in range(1, 10)], 0, GENESIS)
    await schema.upgrade(engine)
    async with write_connection(engine) as connection:
        await connection.execute(insert(RECORDS), rows)
        await connection.execute(update(HEAD).values(seq=9, hash=rows[-1]["hash"]))
    await engine.dispose()  # closing the last connection moves the write-ahead log into the file
    file = tmp_path / "audit.sqlite"
    data = bytearray(file.read_bytes())
    data[data.index(b"handler.number6")] ^= 1
    file.write_bytes(data)
    result = await verify(engine)
    assert (result.tampering, result.seq) == (CHANGED, 6)
