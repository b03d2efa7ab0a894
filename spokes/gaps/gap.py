"""`Gap`, its causes, and the proofs that close it. A closed vocabulary; pure.

The subject of a gap is one portal and one scope. A scope is an object type (`contact`: creations, changes, deletions
and merges of its records), or an object type with the kind of event that cannot be read from records
(`contact.associationChange`).
"""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

ALL_PORTALS: Final = 0
ALL_SCOPES: Final = ""
RECORD_KINDS: Final = frozenset({"creation", "propertyChange", "deletion", "merge"})


@unique
class GapCause(StrEnum):
    """Why events may have been missed."""

    NO_WEB_PROCESS = "no_web_process"  # no web process wrote its heartbeat
    DELIVERIES_REFUSED = "deliveries_refused"  # deliveries were answered with 503
    NO_TRAFFIC = "no_traffic"  # nothing came where events usually come
    SUBSCRIPTION_MISSING = "subscription_missing"  # HubSpot had no subscription for these events
    CURSOR_TOO_OLD = "cursor_too_old"  # the journal no longer keeps what the reader has not read
    REDIS_DATA_LOST = "redis_data_lost"  # Redis lost accepted deliveries
    NOT_RECEIVED = "not_received"  # HubSpot's records show changes of which the audit has no event


@unique
class Proof(StrEnum):
    """Why no event of a gap is missing any more."""

    JOURNAL = "journal"  # the journal's cursor passed the interval
    BACKFILL = "backfill"  # a finished backfill read every record that changed in it
    REDELIVERY = "redelivery"  # HubSpot's next attempts brought every event that was refused
    OPERATOR = "operator"  # an operator closed it, with a reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """An interval `since` <= t < `until` (epoch ms); open as long as `proof` is None.

    `backfill` is the id of the backfill that closed it, empty for other proofs.
    """

    id: str
    portal_id: int
    scope: str
    since: int
    until: int
    causes: tuple[GapCause, ...]
    opened_at: int
    proof: Proof | None = None
    closed_at: int | None = None
    closed_by: str = ""
    reason: str = ""
    backfill: str = ""

    @property
    def subject(self) -> tuple[int, str]:
        """The portal and the scope."""
        return self.portal_id, self.scope


@dataclass(frozen=True, slots=True, kw_only=True)
class MissedInterval:
    """A report that events may have been missed; of all portals or scopes where it names none."""

    since: int
    until: int
    cause: GapCause
    portal_id: int = ALL_PORTALS
    scope: str = ALL_SCOPES


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenInterval:
    """A proof that no event of an interval is missing; of all portals or scopes where it names none.

    With `only_cause` it is about this cause, and proves nothing of a gap that has another one too.

    A proof that grows (a journal's cursor) names the whole interval each time: a gap may be reported after it.
    """

    since: int
    until: int
    proof: Proof
    portal_id: int = ALL_PORTALS
    scope: str = ALL_SCOPES
    closed_by: str = "spokes"
    reason: str = ""
    backfill: str = ""
    only_cause: GapCause | None = None

    def covers(self, gap: Gap) -> bool:
        """Return whether the proof is about the gap's subject and causes."""
        if self.only_cause is not None and gap.causes != (self.only_cause,):
            return False
        return self.portal_id in {ALL_PORTALS, gap.portal_id} and self.scope in {ALL_SCOPES, gap.scope}


def new_gap_id() -> str:
    """Return a new id of eight hexadecimal digits."""
    return secrets.token_hex(4)


def scopes_of(registrations: Iterable[str]) -> tuple[str, ...]:
    """Return the scopes of the events that handlers register for, sorted.

    A backfill finds associations, messages, erasures and restorations in no record, so each of these kinds is a scope
    of its own.
    """
    scopes = set()
    for registration in registrations:
        object_type, _, kind = registration.partition(":")[0].partition(".")
        is_of_records = kind in RECORD_KINDS and object_type not in {"object", "conversation"}
        scopes.add(object_type if is_of_records else f"{object_type}.{kind}")
    return tuple(sorted(scopes))
