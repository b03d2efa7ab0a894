"""AuditRecord and its closed vocabulary. Rule: a record names things and never holds a value.

Names of properties, ids, times and constant reasons may stand in a record; property values, headers, bodies and
secrets may not. Where equality of values matters, `spokes.core.masking.keyed_hash` stands in.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import Any, Final

from spokes.core import clock
from spokes.core.events import Event


@unique
class Action(StrEnum):
    """What a record is about."""

    DELIVERY_RECEIVED = "delivery.received"  # one for each request taken: how many events of which fate at the door
    REQUESTS_REFUSED = "requests.refused"  # aggregated: a forger cannot fill the store
    EVENT = "event"  # one for each outcome of an event
    CRM_WRITE = "crm.write"  # one for each change we made in HubSpot
    OBJECT_MERGED = "object.merged"  # one for each object that a merge took away; the merge is the event of its key
    PRIVACY_REQUESTED = "privacy.requested"  # by an operator: somebody asked to be erased
    PRIVACY_EXPORTED = "privacy.exported"  # by an operator: what is held on a person was shown
    PRIVACY_ERASED = "privacy.erased"  # one for each id; the archiver puts the keyed hash in place of the id
    DEAD_REPLAYED = "dead.replayed"  # by an operator
    DEAD_DISCARDED = "dead.discarded"  # by an operator
    PORTAL_PAUSED = "portal.paused"  # by an operator
    PORTAL_RESUMED = "portal.resumed"  # by an operator, whatever had paused it
    VALUE_REVEALED = "value.revealed"  # by an operator: the values of a dead letter were shown
    SECRETS_RESEALED = "secrets.resealed"  # by an operator: secrets that we keep were sealed with another key
    LOGGED_IN = "login"  # by whoever has come into the console
    LOGGED_OUT = "logout"
    SESSIONS_ENDED = "sessions.ended"  # by an operator: somebody else's
    USER_CHANGED = "user.changed"  # by an operator: an account was made, or has another role, portal or password
    USER_REMOVED = "user.removed"  # by an operator
    LINK_MADE = "link.made"  # by an operator: a link that lets somebody in once
    TOKEN_MADE = "token.made"  # noqa: S105 - by an operator: for the API; the record names the token by its id
    TOKEN_REVOKED = "token.revoked"  # noqa: S105 - by an operator
    STREAM_UNREADABLE = "stream.unreadable"  # by the archiver: an entry that is no record; its content is not kept
    RETENTION = "retention"  # nightly: what was kept for its time and is gone
    ALERT_BEGAN = "alert.began"  # something unusual, once for each episode
    ALERT_ENDED = "alert.ended"


@unique
class Outcome(StrEnum):
    """How an event ended, or where it stands. Nothing else exists."""

    # An admitted event ends in exactly one of these.
    PROCESSED = "processed"
    SUPERSEDED = "superseded"  # a newer change of the same property was already applied
    COALESCED = "coalesced"  # a newer change of the same object spoke for it
    ECHO = "echo"  # our own write coming back
    MERGED = "merged"  # folded into a merge
    DEAD = "dead"
    DISCARDED = "discarded"  # by an operator
    # On the way there it may be one of these, any number of times.
    RETRIED = "retried"
    PARKED = "parked"
    REPLAYED = "replayed"  # a dead one, tried anew
    # At the door.
    IGNORED = "ignored"
    DUPLICATE = "duplicate"
    QUARANTINED = "quarantined"
    REFUSED = "refused"  # requests


TERMINAL: Final = frozenset(
    {
        Outcome.PROCESSED,
        Outcome.SUPERSEDED,
        Outcome.COALESCED,
        Outcome.ECHO,
        Outcome.MERGED,
        Outcome.DEAD,
        Outcome.DISCARDED,
    }
)


def _now_ms() -> int:
    return clock.now_ms()


def _new_id(at: int | None = None) -> str:
    """12 hex digits of the epoch ms, 10 of chance: unique, not secret."""
    return ((_now_ms() if at is None else at) << 40 | random.getrandbits(40)).to_bytes(11, "big").hex()


@dataclass(slots=True, kw_only=True)  # frozen would double the cost of making one, of which every event needs one
class AuditRecord:
    """One line of the record, made once and never changed.

    `at` and `occurred_at` are epoch ms; `id` sorts by time and is unique; `reason` is a constant; `correlation_id` is
    HubSpot's; `actor` is who acted: `spokes`, or an operator's name; `detail` holds what only this action has.
    `object_hash` is the archiver's to set: the keyed hash that stays when the person behind `object_id` is erased.
    """

    action: Action
    portal_id: int
    outcome: Outcome | None = None
    reason: str = ""
    attempt: int = 0
    delivery_id: str = ""
    event_key: str = ""
    event_id: int | None = None
    app_id: int | None = None
    subscription_type: str = ""
    object_type: str = ""
    object_id: str = ""
    occurred_at: int | None = None
    handler: str = ""
    actor: str = "spokes"
    correlation_id: str = ""
    detail: Mapping[str, object] = field(default_factory=dict)
    object_hash: str = ""
    id: str = field(default_factory=_new_id)
    at: int = field(default_factory=_now_ms)

    def as_dict(self) -> dict[str, object]:
        """Return the fields by name, ready for JSON; `detail` is the record's own, not a copy."""
        return {name: getattr(self, name) for name in self.__slots__}


def event_fields(
    event: Event,
    outcome: Outcome,
    *,
    key: str,
    delivery_id: str,
    attempt: int = 0,
    reason: str = "",
    handler: str = "",
    correlation_id: str = "",
    detail: Mapping[str, object] | None = None,
    actor: str = "spokes",
) -> dict[str, Any]:
    """Return the fields of the record of one outcome of one event, for `AuditRecord` or `stream.encode_fields`.

    Workers end thousands of events a second: only fields that say something are there, and no record need be made.
    """
    at = _now_ms()
    fields: dict[str, Any] = {
        "action": Action.EVENT,
        "portal_id": event.portal_id,
        "outcome": outcome,
        "attempt": attempt,
        "delivery_id": delivery_id,
        "event_key": key,
        "event_id": event.event_id,
        "app_id": event.app_id,
        "subscription_type": event.subscription_type,
        "object_type": event.object_type,
        "object_id": event.object_id,
        "occurred_at": event.occurred_at,
        "actor": actor,
        "id": _new_id(at),
        "at": at,
    }
    if reason:
        fields["reason"] = reason
    if handler:
        fields["handler"] = handler
    if correlation_id:
        fields["correlation_id"] = correlation_id
    if detail:
        fields["detail"] = detail
    return fields


def delivery_fields(portal_id: int, delivery_id: str, detail: Mapping[str, object]) -> dict[str, object]:
    """Return the fields of the record that opens a delivery's history; the door writes one for each request."""
    at = _now_ms()
    return {
        "action": Action.DELIVERY_RECEIVED,
        "portal_id": portal_id,
        "delivery_id": delivery_id,
        "actor": "spokes",
        "detail": detail,
        "id": _new_id(at),
        "at": at,
    }
