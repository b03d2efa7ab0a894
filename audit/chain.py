"""The chain that shows tampering: each record's hash covers the hash before it. Rule: pure, and never changes.

Canonical form of a record: the UTF-8 bytes of one JSON object without whitespace, keys sorted, holding every column
but `seq` and `hash` that is not NULL; `detail` stands in it as text, byte for byte as it is stored. A column that is
added later is NULL in older rows and so leaves their hashes as they are.

    hash = lower-case hex of SHA-256(previous hash, as its 64 ASCII digits + canonical form)

The record with `seq` 1 follows GENESIS.
"""

import hashlib
from typing import Final

import orjson

from audit.rows import Row

GENESIS: Final = "0" * 64
_OUTSIDE: Final = frozenset({"seq", "hash"})


def canonical(row: Row) -> bytes:
    """Return the bytes of a row that its hash covers."""
    covered = {name: value for name, value in row.items() if value is not None and name not in _OUTSIDE}
    # Only a row that somebody tampered with holds what JSON cannot say; it must not hash like its honest form.
    return orjson.dumps(covered, option=orjson.OPT_SORT_KEYS, default=repr)


def link(previous_hash: str, row: Row) -> str:
    """Return the hash of `row` in the place after `previous_hash`, 64 hex digits."""
    return hashlib.sha256(previous_hash.encode() + canonical(row)).hexdigest()
