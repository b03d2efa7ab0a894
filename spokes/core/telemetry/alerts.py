"""Every alert by name, with what it means and what to do about it. Rule: nothing else is told to the operators.

Log, metrics, audit, Sentry and the outgoing webhook call an alert by the same name.
"""

from collections.abc import Mapping
from enum import StrEnum, unique
from typing import Final


@unique
class Alert(StrEnum):
    """What operators are told of. Those of the first part stand until they are over; the others happen."""

    PORTAL_PAUSED = "portal_paused"
    QUEUE_FILLING = "queue_filling"
    AUDIT_UNAVAILABLE = "audit_unavailable"
    AUDIT_BACKLOG = "audit_backlog"
    UNUSUAL_DELETIONS = "unusual_deletions"
    UNUSUAL_PRIVACY_DELETIONS = "unusual_privacy_deletions"
    UNUSUAL_MERGES = "unusual_merges"
    UNUSUAL_SIGNATURE_FAILURES = "unusual_signature_failures"
    UNUSUAL_DEAD_LETTERS = "unusual_dead_letters"
    SECRET_AGEING = "secret_ageing"  # noqa: S105 - the name of an alert, not a secret
    SECRET_OLD = "secret_old"  # noqa: S105 - likewise
    TOKEN_IN_REDIS = "token_in_redis"  # noqa: S105 - likewise
    PRIVACY_REQUEST_DUE = "privacy_request_due"

    ACCESS_TOKEN_REFUSED = "access_token_refused"  # noqa: S105 - likewise
    UNREADABLE_DELIVERY = "unreadable_delivery"
    AUDIT_STREAM_UNREADABLE = "audit_stream_unreadable"
    REWRITE_LOOP = "rewrite_loop"
    CRASH_LOOP = "crash_loop"
    LOOP_BLOCKED = "loop_blocked"


ALERT_TEXTS: Final[Mapping[Alert, tuple[str, str]]] = {
    Alert.PORTAL_PAUSED: (
        "The work of a portal waits; nothing is lost, and it costs no attempt.",
        "not_authorized: renew HUBSPOT_ACCESS_TOKEN, restart workers. By hand: `spokes resume`. Or it ends itself.",
    ),
    Alert.QUEUE_FILLING: (
        "A limit of the queue, the audit stream or Redis' memory is near; imports, then everything, get 503.",
        "Add workers, look at the CRM budget, give Redis more memory.",
    ),
    Alert.AUDIT_UNAVAILABLE: (
        "The audit store does not answer; records wait in Redis, and nothing is lost.",
        "Mend DATABASE_URL's server, or run `spokes migrate`.",
    ),
    Alert.AUDIT_BACKLOG: (
        "More records than AUDIT_BACKLOG wait in Redis for the audit store.",
        "See whether the store answers, and whether workers run.",
    ),
    Alert.UNUSUAL_DELETIONS: (
        "Many records were deleted in 24 hours.",
        "Find out who deletes: `spokes audit query --since 1d`.",
    ),
    Alert.UNUSUAL_PRIVACY_DELETIONS: (
        "Many people were erased in 24 hours.",
        "Find out who asked: `spokes privacy list --all`.",
    ),
    Alert.UNUSUAL_MERGES: ("Many records were merged in 24 hours.", "Look for a tool that removes duplicates."),
    Alert.UNUSUAL_SIGNATURE_FAILURES: (
        "Many requests failed their signature in 24 hours.",
        "If HubSpot's own fail, `spokes explain-signature` says why; if strangers knock, see ALLOWED_ADDRESSES.",
    ),
    Alert.UNUSUAL_DEAD_LETTERS: (
        "Many events could not be processed in 24 hours.",
        "`spokes dead list` says why; `spokes dead replay` tries them again once it is mended.",
    ),
    Alert.SECRET_AGEING: ("A secret will soon be 90 days old.", "Plan its rotation: docs/operations.md."),
    Alert.SECRET_OLD: ("A secret is older than 90 days.", "Rotate it: docs/operations.md."),
    Alert.TOKEN_IN_REDIS: (
        "Something that looks like a token lies in Redis in plain text.",
        "Find out which handler or tool put it there, rotate the token, delete the key.",
    ),
    Alert.PRIVACY_REQUEST_DUE: (
        "A request to erase a person is due within a week, and not done.",
        "`spokes privacy list`, then `spokes privacy erase --resume`.",
    ),
    Alert.ACCESS_TOKEN_REFUSED: (
        "HubSpot does not know the access token, so a worker did not start.",
        "Copy the access token from the Auth page of your HubSpot app.",
    ),
    Alert.UNREADABLE_DELIVERY: (
        "A job that is none of ours lay in the queue; it was put aside.",
        "Find out who else writes to this Redis, or which version wrote it.",
    ),
    Alert.AUDIT_STREAM_UNREADABLE: (
        "Something that is no record lay in the audit stream; the record says where.",
        "Find out who else writes to this Redis.",
    ),
    Alert.REWRITE_LOOP: (
        "Two handlers, or we and an automation of HubSpot's, would rewrite each other; our part has stopped.",
        "Look at the handlers named (what one writes does not run another), or at the workflows that set it.",
    ),
    Alert.CRASH_LOOP: (
        "An event killed its worker each time it ran; it is a dead letter now, and the others go on.",
        "`spokes dead show` names its handler: look for endless memory or a crash in C; then `spokes dead replay`.",
    ),
    Alert.LOOP_BLOCKED: (
        "A handler holds up everything else in its process.",
        "Let it `await`, or put what is slow into a thread.",
    ),
}
