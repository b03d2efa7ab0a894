"""What signed places say about a chain. Rule: pure; a signature that is not ours proves nothing but that."""

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum, unique
from typing import NamedTuple

from spokes.audit.chain import GENESIS
from spokes.audit.checkpoints import Checkpoint, anchor_of, signing_key
from spokes.core.errors import AuditUnavailable


@unique
class Tampering(StrEnum):
    """What was done to a record, as far as its neighbours and signed places tell."""

    CHANGED = "changed"
    REMOVED = "removed"
    INSERTED = "inserted"
    REORDERED = "re-ordered"
    REWRITTEN = "rewritten"  # it, or records before it, with hashes that fit each other but not a signed place


class Start(NamedTuple):
    """Where the records that are left begin: after the record `seq`, whose hash this is."""

    seq: int
    hash: str


class Evidence:
    """The signed places of one chain: those in the store, and those that were kept elsewhere."""

    def __init__(self, inside: Sequence[Checkpoint], outside: Sequence[Checkpoint], master: str | None) -> None:
        """Weigh them; without `master` those inside are taken as they stand."""
        anchor = anchor_of(inside)
        self.start = Start(anchor.seq, anchor.hash) if anchor else Start(0, GENESIS)
        self._places: dict[int, list[Checkpoint]] = {}
        for place in (*inside, *outside):
            self._places.setdefault(place.seq, []).append(place)
        self.last = max(self._places, default=0)
        self.fault = self._fault(inside, master) or self._fault_at_start()

    def contradicts(self, seq: int, hash_: str) -> str:
        """Return what a signed place that knows the record `seq` with another hash tells; empty if none does."""
        for place in self._places.get(seq, ()):
            if place.hash != hash_:
                when = datetime.fromtimestamp(place.at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
                return f"The chain was rewritten up to record {seq}: its {place.kind} of {when} UTC has another hash."
        return ""

    def _fault(self, inside: Sequence[Checkpoint], master: str | None) -> tuple[int, Tampering, str] | None:
        if master is None:
            return None
        key = signing_key(master)
        for place in inside:
            if not place.is_genuine(key):
                told = f"The {place.kind} of record {place.seq} was not signed with this AUDIT_KEY."
                return place.seq, Tampering.REWRITTEN, told
        return None

    def _fault_at_start(self) -> tuple[int, Tampering, str] | None:
        told = self.contradicts(*self.start)
        return (self.start.seq, Tampering.REWRITTEN, told) if told else None


def require_genuine(places: Sequence[Checkpoint], key: bytes) -> None:
    """Insist that places kept elsewhere are ours.

    Raises:
        AuditUnavailable: one was not signed with `key`.
    """
    for place in places:
        if not place.is_genuine(key):
            raise AuditUnavailable(f"The checkpoint of record {place.seq} was not signed with this AUDIT_KEY.")
