"""Signatures of stream entries: write access to Redis does not suffice to forge an audit record.

An entry is JSON whose last field is `mac`, a keyed hash of the bytes without that field. Versions that do not know the
field keep it in `detail`. Machines without a common AUDIT_KEY have no common key: they neither sign nor check.
"""

import hashlib
import hmac
from enum import Enum, auto
from typing import Final

from spokes.core.masking import derive_key
from spokes.core.master_key import shared_master_key
from spokes.core.settings import Settings

_DIGEST_BYTES: Final = 12
_START: Final = b',"mac":"'
_LENGTH: Final = len(_START) + 2 * _DIGEST_BYTES + len(b'"}')
_keyed: "hashlib.blake2b | None" = None  # copied for each entry: the key is hashed once


class Signature(Enum):
    """What the signature of an entry shows."""

    GENUINE = auto()  # also without a common key
    MISSING = auto()  # as in entries of versions that do not sign
    FORGED = auto()


def sign_entries(settings: Settings | None) -> None:
    """Sign and check entries from now on in this process, if its machines have a common key; None ends that."""
    global _keyed  # noqa: PLW0603 - one key per process, set once at its start
    master_key = settings and shared_master_key(settings)
    key = derive_key(master_key, "audit stream") if master_key else None
    _keyed = hashlib.blake2b(key=key, digest_size=_DIGEST_BYTES) if key else None


def with_signature(payload: bytes) -> bytes:
    """Return the bytes of an entry, signed."""
    if _keyed is None:
        return payload
    digest = _keyed.copy()
    digest.update(payload)
    return payload[:-1] + _START + digest.hexdigest().encode() + b'"}'


def split_signature(payload: bytes) -> tuple[bytes, Signature]:
    """Return the bytes of an entry without its signature, and what the signature shows."""
    start = len(payload) - _LENGTH
    has_signature = start > 0 and payload[start : start + len(_START)] == _START and payload.endswith(b'"}')
    unsigned = payload[:start] + b"}" if has_signature else payload
    if _keyed is None:
        return unsigned, Signature.GENUINE
    if not has_signature:
        return unsigned, Signature.MISSING
    is_genuine = hmac.compare_digest(payload, with_signature(unsigned))
    return unsigned, Signature.GENUINE if is_genuine else Signature.FORGED
