"""Keyed hash that replaces a CRM object's id in the audit once the object is erased. Pure.

An id identifies a person, because HubSpot never assigns it to another record. The key derives from AUDIT_KEY, for this
purpose alone.
"""

from spokes.audit.rows import Row
from spokes.core.masking import derive_key, keyed_hash


def object_hash_key(master_key: str) -> bytes:
    """Return the key of these hashes, from `load_master_key`."""
    return derive_key(master_key, "audit objects")


def object_hash(key: bytes, portal_id: int, object_type: str, object_id: str) -> str:
    """Return the hash of one object: 32 hex digits."""
    return keyed_hash(key, f"{portal_id}:{object_type}:{object_id}")


def hash_for_row(key: bytes, row: Row) -> str | None:
    """Return the hash of the object whose id the row contains; None if it contains none."""
    if row["object_id"] is None:
        return None
    return object_hash(key, int(row["portal_id"] or 0), str(row["object_type"] or ""), str(row["object_id"]))
