"""The chain that shows tampering: each record's hash covers the hash before it. Rule: pure, and never changes.

Canonical form of a record: the UTF-8 bytes of one JSON object without whitespace, keys sorted, holding every column
but `seq` and `hash` that is not NULL; `detail` stands in it as text, byte for byte as it is stored. A column that is
added later is NULL in older rows and so leaves their hashes as they are. Where `object_hash` is not NULL it stands in
for `object_id`, which is then left out: the id of a person who is erased can go, and the chain still verifies.

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
    # Only a row that somebody tampered with holds what JSON cannot say; it must not hash like its honest form.
    return orjson.dumps(covered, option=orjson.OPT_SORT_KEYS, default=repr)


def chain_hash(previous_hash: str, row: Row) -> str:
    """Return the hash of `row` in the place after `previous_hash`, 64 hex digits."""
    return hashlib.sha256(previous_hash.encode() + canonical_bytes(row)).hexdigest()


def chain_rows(rows: Iterable[Row], seq: int, previous_hash: str) -> list[Row]:
    """Return the rows with the `seq` and `hash` they get after the record `seq`, whose hash is `previous_hash`."""
    links: list[Row] = []
    for row in rows:
        seq, previous_hash = seq + 1, chain_hash(previous_hash, row)
        links.append({**row, "seq": seq, "hash": previous_hash})
    return links
