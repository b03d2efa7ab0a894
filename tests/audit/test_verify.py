from pathlib import Path

import pytest
from sqlalchemy import delete, insert, update
from sqlalchemy.ext.asyncio import AsyncEngine

from spokes.audit.chain import GENESIS, chain_hash, chain_rows
from spokes.audit.rows import Row, to_row
from spokes.audit.sql import schema
from spokes.audit.sql.engine import write_connection
from spokes.audit.sql.tables import HEAD, RECORDS
from spokes.audit.verify import Tampering, VerificationResult, verify
from tests.support.events import record

HONEST = chain_rows([to_row(record(number).as_dict()) for number in range(1, 10)], 0, GENESIS)


async def judge(engine: AsyncEngine, rows: list[Row]) -> VerificationResult:
    """Verify a store that holds `rows` where the archiver had put the honest ones."""
    await schema.upgrade(engine)
    async with write_connection(engine) as connection:
        await connection.execute(delete(RECORDS))
        if rows:
            await connection.execute(insert(RECORDS), rows)
        await connection.execute(update(HEAD).values(seq=HONEST[-1]["seq"], hash=HONEST[-1]["hash"]))
    return await verify(engine)


def renumbered(*rows: Row) -> list[Row]:
    return [{**row, "seq": seq} for seq, row in enumerate(rows, start=1)]


def invented(previous: Row) -> Row:
    """A record that never was, with a hash that fits after `previous`."""
    row = to_row(record(77).as_dict())
    return {"seq": 0, "hash": chain_hash(str(previous["hash"]), row), **row}


def forged(row: Row) -> Row:
    """A changed record with a hash that fits its new content."""
    changed = {**row, "outcome": "dead"}
    return {**changed, "hash": chain_hash(str(HONEST[int(row["seq"] or 0) - 2]["hash"]), changed)}


def swapped_contents(one: Row, other: Row) -> list[Row]:
    ends = ("seq", "hash")
    return [
        {**other, **{name: one[name] for name in ends}},
        {**one, **{name: other[name] for name in ends}},
    ]


H = HONEST
CHANGED, REMOVED, INSERTED, REORDERED, REWRITTEN = Tampering
TAMPERED = {
    "content changed": ([*H[:4], {**H[4], "outcome": "dead"}, *H[5:]], 5, CHANGED),
    "content emptied": ([*H[:4], {**H[4], "handler": None}, *H[5:]], 5, CHANGED),
    "hash changed": ([*H[:4], {**H[4], "hash": "0" * 64}, *H[5:]], 5, CHANGED),
    "first changed": ([{**H[0], "outcome": "dead"}, *H[1:]], 1, CHANGED),
    "changed with a fitting hash": ([*H[:4], forged(H[4]), *H[5:]], 6, CHANGED),
    "last changed with a fitting hash": ([*H[:8], forged(H[8])], 9, CHANGED),
    "number changed": ([*H[:8], {**H[8], "seq": 12}], 9, CHANGED),
    "one removed": ([*H[:4], *H[5:]], 5, REMOVED),
    "several removed": ([*H[:4], *H[7:]], 5, REMOVED),
    "first removed": (H[1:], 1, REMOVED),
    "last removed": (H[:8], 9, REMOVED),
    "all removed": ([], 1, REMOVED),
    "removed and renumbered": (renumbered(*H[:4], *H[5:]), 5, REMOVED),
    "inserted": (renumbered(*H[:4], {**invented(H[3]), "hash": "0" * 64}, *H[4:]), 5, INSERTED),
    "inserted with a fitting hash": (renumbered(*H[:4], invented(H[3]), *H[4:]), 5, INSERTED),
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
    verdict = await judge(engine, HONEST)
    assert (verdict.is_intact, verdict.records, verdict.hash) == (True, 9, HONEST[-1]["hash"])


async def test_empty_store_is_intact(engine: AsyncEngine) -> None:
    await schema.upgrade(engine)
    assert (await verify(engine)).is_intact


async def test_tampering_is_found_and_told_apart(engine: AsyncEngine) -> None:
    """Each kind alone; the first broken place is named."""
    found = {}
    for kind, (rows, _, _) in TAMPERED.items():
        verdict = await judge(engine, rows)
        found[kind] = (verdict.seq, verdict.tampering)
    assert found == {kind: (seq, tampering) for kind, (_, seq, tampering) in TAMPERED.items()}


async def test_chain_longer_than_a_page_is_walked_to_its_end(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spokes.audit.verify._PAGE", 4)
    assert (await judge(engine, HONEST)).records == 9


async def test_progress_rises_to_the_number_of_records(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spokes.audit.verify._PAGE", 4)
    await judge(engine, HONEST)
    seen: list[tuple[int, int]] = []
    await verify(engine, lambda done, total: seen.append((done, total)))
    assert seen == [(4, 9), (8, 9), (9, 9)]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_single_bit_flipped_in_the_file_is_located(engine: AsyncEngine, tmp_path: Path) -> None:
    rows = chain_rows([to_row(record(n, handler=f"handler.number{n}").as_dict()) for n in range(1, 10)], 0, GENESIS)
    await schema.upgrade(engine)
    async with write_connection(engine) as connection:
        await connection.execute(insert(RECORDS), rows)
        await connection.execute(update(HEAD).values(seq=9, hash=rows[-1]["hash"]))
    await engine.dispose()  # the last connection to close empties the journal into the file
    file = tmp_path / "audit.sqlite"
    data = bytearray(file.read_bytes())
    data[data.index(b"handler.number6")] ^= 1
    file.write_bytes(data)
    verdict = await verify(engine)
    assert (verdict.tampering, verdict.seq) == (CHANGED, 6)
