"""AuditRecord, the only list of an audit record's fields, and its closed vocabulary.

A record contains names of properties, ids, times and constant reasons, but no property values, headers, bodies or
secrets. Where the equality of values matters, it contains their `spokes.core.masking.keyed_hash`.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum, unique
from typing import Any, Final

from spokes.core.clock import now_ms
from spokes.core.events import Event


@unique
class Action(StrEnum):
    """What a record is about."""

    DELIVERY_RECEIVED = "delivery.received"  # one per accepted request: how many events were queued, ignored ...
    REQUESTS_REFUSED = "requests.refused"  # counts of many requests, so that forged ones cannot fill the store
    EVENT = "event"  # one per outcome of an event
    CRM_WRITE = "crm.write"  # one per change that we made in HubSpot
    OBJECT_MERGED = "object.merged"  # one per object that a merge removed; `event_key` is that of the merge event
    PRIVACY_REQUESTED = "privacy.requested"  # by an operator: a person requested erasure
    PRIVACY_EXPORTED = "privacy.exported"  # by an operator: the data held on a person was exported
    PRIVACY_ERASED = "privacy.erased"  # one per id; the archiver replaces the id with its object hash
    DEAD_REPLAYED = "dead.replayed"  # by an operator
    DEAD_DISCARDED = "dead.discarded"  # by an operator
    PORTAL_PAUSED = "portal.paused"  # by an operator
    PORTAL_RESUMED = "portal.resumed"  # by an operator, whether an operator or a failure paused it
    PORTAL_INSTALLED = "portal.installed"  # by a customer, who authorised the app for their portal
    PORTAL_UNINSTALLED = "portal.uninstalled"  # by an operator, who disconnected the portal
    PORTAL_ERASED = "portal.erased"  # UNINSTALLED_DAYS after the portal removed the app
    PORTAL_CHANGED = "portal.changed"  # by an operator: the settings of one portal
    VALUE_REVEALED = "value.revealed"  # by an operator: the values of a dead letter were displayed
    SECRETS_RESEALED = "secrets.resealed"  # by an operator: stored secrets were sealed with another key
    LOGGED_IN = "login"  # by the actor who logged in to the console
    LOGGED_OUT = "logout"
    SESSIONS_ENDED = "sessions.ended"  # by an operator: the sessions of another actor
    USER_CHANGED = "user.changed"  # by an operator: an account was created, or its role, portals or password changed
    USER_REMOVED = "user.removed"  # by an operator
    LINK_MADE = "link.made"  # by an operator: a one-time login link
    TOKEN_MADE = "token.made"  # noqa: S105 - by an operator: an API token; the record contains its id
    TOKEN_REVOKED = "token.revoked"  # noqa: S105 - by an operator
    INCIDENT_OPENED = "incident.opened"  # by an operator
    INCIDENT_NOTED = "incident.noted"  # by an operator; `detail` says whether the authority was notified
    INCIDENT_CLOSED = "incident.closed"  # by an operator
    INCIDENT_EXPORTED = "incident.exported"  # by an operator: a signed bundle was written
    SUBSCRIPTION_CHANGED = "subscription.changed"  # by an operator: what HubSpot sends, or where to
    GAP_OPENED = "gap.opened"  # events may have been missed; `detail` says when, which and why
    GAP_CLOSED = "gap.closed"  # a proof, or an operator with a reason, closed (a part of) a gap
    BACKFILL = (
        "backfill"  # a backfill was started, continued, paused, cancelled, stopped or finished; `detail` says what
    )
    RECONCILED = "reconciled"  # a day of HubSpot's records was compared with the audit; `detail` has the counts
    STREAM_UNREADABLE = "stream.unreadable"  # by the archiver: an unreadable stream entry; its content is not kept
    STREAM_FORGED = "stream.forged"  # by the archiver: a stream entry without our signature; its content is not kept
    RETENTION = "retention"  # nightly: what was purged because its retention time was over
    ALERT_BEGAN = "alert.began"  # once per episode
    ALERT_ENDED = "alert.ended"


@unique
class Outcome(StrEnum):
    """The final or current state of an event: a closed list."""

    # Final: an admitted event ends with exactly one of these.
    PROCESSED = "processed"
    SUPERSEDED = "superseded"  # a newer change of the same property was already applied
    COALESCED = "coalesced"  # covered by the handler call of a newer change of the same object
    ECHO = "echo"  # the event that HubSpot sent for our own write
    MERGED = "merged"  # the deletion of a record that was merged into another
    DEAD = "dead"
    DISCARDED = "discarded"  # by an operator
    # Intermediate: any number of times before the final one.
    RETRIED = "retried"  # failed; another attempt follows
    PARKED = "parked"  # postponed without a spent attempt
    REPLAYED = "replayed"  # a dead letter, queued again
    # Assigned by the web process.
    IGNORED = "ignored"
    DUPLICATE = "duplicate"
    QUARANTINED = "quarantined"
    REFUSED = "refused"  # of a request, not of an event


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


def _new_id(at: int | None = None) -> str:
    """Return 12 hex digits of the epoch ms and 10 random ones: unique, not secret."""
    return f"{(now_ms() if at is None else at) << 40 | random.getrandbits(40):022x}"


@dataclass(slots=True, kw_only=True)  # frozen=True would double the cost of creating one, and every event needs one
class AuditRecord:
    """One line of the audit; never changed after creation.

    `at` and `occurred_at` are epoch ms; `id` is unique and sorts by time; `reason` is a constant; `correlation_id` is
    HubSpot's; `actor` is `spokes` or an operator's name; `detail` has the fields of this action only. `object_hash` is
    set by the archiver: it remains when the object behind `object_id` is erased.
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
    at: int = field(default_factory=now_ms)

    def as_dict(self) -> dict[str, object]:
        """Return the fields by name, ready for JSON; `detail` is not copied."""
        return {name: getattr(self, name) for name in FIELD_NAMES}


FIELD_NAMES: Final = tuple(field.name for field in fields(AuditRecord))


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
    at: int | None = None,
) -> dict[str, Any]:
    """Return the fields of the record of an event's outcome, for `AuditRecord` or `stream.encode_fields`.

    `at` is the time of the outcome in epoch ms, by default now.

    Workers settle thousands of events a second: empty fields are left out, and no AuditRecord has to be created.
    """
    if at is None:
        at = now_ms()
    record: dict[str, Any] = {
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
        record["reason"] = reason
    if handler:
        record["handler"] = handler
    if correlation_id:
        record["correlation_id"] = correlation_id
    if detail:
        record["detail"] = detail
    return record


def record_fields(action: Action, portal_id: int, **fields: object) -> dict[str, object]:
    """Return the fields of any record, for `stream.encode_fields`; empty ones are left out, as in `event_fields`."""
    at = now_ms()
    record = {name: value for name, value in fields.items() if value or value == 0}
    record |= {"action": action, "portal_id": portal_id, "actor": "spokes", "id": _new_id(at), "at": at}
    return record


def settled_key(event_key: str, handler: str, detail: Mapping[str, object]) -> str:
    """Return under which key an outcome is final: the event's, or of an event with several handlers, the handler's.

    `detail["handlers"]` names all handlers of such an event; other records do not have it.
    """
    return f"{event_key}.{handler}" if detail.get("handlers") else event_key


def delivery_fields(portal_id: int, delivery_id: str, detail: Mapping[str, object]) -> dict[str, object]:
    """Return the fields of a delivery's first record; the web process writes one per accepted request."""
    at = now_ms()
    return {
        "action": Action.DELIVERY_RECEIVED,
        "portal_id": portal_id,
        "delivery_id": delivery_id,
        "actor": "spokes",
        "detail": detail,
        "id": _new_id(at),
        "at": at,
    }
