"""The keyed hash that stands for a CRM object once its id must go. Rule: pure; the key is AUDIT_KEY's, for this alone.

Source of the need: an id is a pseudonym of a person, and HubSpot never gives it to another.
"""

from spokes.audit.rows import Row
from spokes.core.masking import derive_key, keyed_hash


def object_hash_key(master_key: str) -> bytes:
    """Return the key of these hashes, from `Settings.master_key()`."""
    return derive_key(master_key, "audit objects")


def object_hash(key: bytes, portal_id: int, object_type: str, object_id: str) -> str:
    """Return 32 hex digits for one object."""
    return keyed_hash(key, f"{portal_id}:{object_type}:{object_id}")


def hash_for_row(key: bytes, row: Row) -> str | None:
    """Return the hash of the object that a row names by id; None when it names none."""
    if row["object_id"] is None:
        return None
    return object_hash(key, int(row["portal_id"] or 0), str(row["object_type"] or ""), str(row["object_id"]))
