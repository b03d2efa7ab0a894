"""Hash chain over audit rows: each record's hash covers the hash before it. Pure; the format never changes.

Canonical form of a record: the UTF-8 bytes of one JSON object without whitespace, keys sorted, with every column that
is not NULL except `seq` and `hash`; `detail` is a string in it, byte for byte as stored. A column that is added later
is NULL in older rows, so their hashes stay the same. If `object_hash` is not NULL, `object_id` is left out: the id of
an erased person can be deleted, and the chain still verifies.

    hash = lower-case hex of SHA-256(previous hash, as its 64 ASCII digits + canonical form)

The record with `seq` 1 follows GENESIS.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

import orjson

from spokes.audit.rows import Row

GENESIS: Final = "0" * 64
_UNHASHED_COLUMNS: Final = frozenset({"seq", "hash"})


def canonical_bytes(row: Row) -> bytes:
    """Return the bytes of a row that its hash covers."""
    covered = {name: value for name, value in row.items() if value is not None and name not in _UNHASHED_COLUMNS}
    if "object_hash" in covered:
        covered.pop("object_id", None)
    # Only a tampered row has values that JSON cannot represent; its hash must differ from the original's.
    return orjson.dumps(covered, option=orjson.OPT_SORT_KEYS, default=repr)


def chain_hash(previous_hash: str, row: Row) -> str:
    """Return the hash of `row` as the successor of `previous_hash`: 64 hex digits."""
    return hashlib.sha256(previous_hash.encode() + canonical_bytes(row)).hexdigest()


def chain_rows(rows: Iterable[Row], seq: int, previous_hash: str) -> list[Row]:
    """Return the rows with `seq` and `hash`, as successors of the record `seq` whose hash is `previous_hash`."""
    chained: list[Row] = []
    for row in rows:
        seq, previous_hash = seq + 1, chain_hash(previous_hash, row)
        chained.append({**row, "seq": seq, "hash": previous_hash})
    return chained
