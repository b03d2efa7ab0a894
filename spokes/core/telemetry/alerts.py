"""Every alert by name, with its meaning and advice. The set is closed.

Log, metrics, audit, Sentry and the outgoing webhook use the same name for an alert.
"""

from collections.abc import Mapping
from enum import StrEnum, unique
from typing import Final


@unique
class Alert(StrEnum):
    """The alerts. Those of the first group stay active until the problem is over; the others report one occurrence."""

    PORTAL_PAUSED = "portal_paused"
    CALLS_PAUSED = "calls_paused"
    NO_CREDENTIALS = "no_credentials"
    NEEDS_REINSTALL = "needs_reinstall"
    TOKEN_REFRESH_REFUSED = "token_refresh_refused"  # noqa: S105 - the name of an alert, not a secret
    OAUTH_APP_REFUSED = "oauth_app_refused"
    WORKER_TOKEN_REFUSED = "worker_token_refused"  # noqa: S105 - the name of an alert, not a secret
    QUEUE_FILLING = "queue_filling"
    JOURNAL_REFUSED = "journal_refused"
    JOURNAL_BEHIND = "journal_behind"
    JOURNAL_EXPIRING = "journal_expiring"
    EVENTS_LOST = "events_lost"
    REDIS_DATA_LOST = "redis_data_lost"
    GAPS_OPEN = "gaps_open"
    RECONCILIATION_FAILED = "reconciliation_failed"
    CLAIMS_STOPPED = "claims_stopped"
    AUDIT_UNAVAILABLE = "audit_unavailable"
    AUDIT_BACKLOG = "audit_backlog"
    AUDIT_CHAIN_BROKEN = "audit_chain_broken"
    CHECKPOINT_NOT_KEPT = "checkpoint_not_kept"
    UNUSUAL_DELETIONS = "unusual_deletions"
    UNUSUAL_PRIVACY_DELETIONS = "unusual_privacy_deletions"
    UNUSUAL_MERGES = "unusual_merges"
    UNUSUAL_SIGNATURE_FAILURES = "unusual_signature_failures"
    UNUSUAL_DEAD_LETTERS = "unusual_dead_letters"
    SECRET_AGEING = "secret_ageing"  # noqa: S105 - the name of an alert, not a secret
    SECRET_OLD = "secret_old"  # noqa: S105 - likewise
    TOKEN_IN_REDIS = "token_in_redis"  # noqa: S105 - likewise
    PRIVACY_REQUEST_DUE = "privacy_request_due"
    DELIVERY_OVERDUE = "delivery_overdue"
    SUBSCRIPTIONS_DRIFTED = "subscriptions_drifted"

    ACCESS_TOKEN_REFUSED = "access_token_refused"  # noqa: S105 - likewise
    UNREADABLE_DELIVERY = "unreadable_delivery"
    AUDIT_STREAM_UNREADABLE = "audit_stream_unreadable"
    AUDIT_STREAM_FORGED = "audit_stream_forged"
    ELEMENTS_QUARANTINED = "elements_quarantined"
    SIGNED_REQUEST_UNREADABLE = "signed_request_unreadable"
    REDIS_ITEM_UNREADABLE = "redis_item_unreadable"
    REDIS_KEY_REPLACED = "redis_key_replaced"
    JOURNAL_RESTARTED = "journal_restarted"
    JOURNAL_PAGE_LOST = "journal_page_lost"
    REWRITE_LOOP = "rewrite_loop"
    CRASH_LOOP = "crash_loop"
    PROCESS_CALL_REFUSED = "process_call_refused"
    LOOP_BLOCKED = "loop_blocked"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    BACKGROUND_TASK_FAILED = "background_task_failed"
    HANDLER_STUCK = "handler_stuck"
    WAITING_DID_NOT_HELP = "waiting_did_not_help"
    INTERNAL_ERROR = "internal_error"
    WORKER_BLOCKED = "worker_blocked"
    WORKER_CRASHED = "worker_crashed"


# Seconds for which an outage must last before its alert begins: a shorter one loses nothing and needs no action. The
# other alerts are about facts that do not end by themselves, or about time that has passed already: they begin at once.
HOLD_DOWN_S: Final[dict[Alert, float]] = {
    Alert.PORTAL_PAUSED: 30.0,  # by an outage of HubSpot; at once by an operator, for a refused token or a longer wait
    Alert.CALLS_PAUSED: 30.0,
    Alert.QUEUE_FILLING: 10.0,
    Alert.CLAIMS_STOPPED: 10.0,
    Alert.AUDIT_UNAVAILABLE: 10.0,
    Alert.AUDIT_BACKLOG: 30.0,
}

ALERT_TEXTS: Final[Mapping[Alert, tuple[str, str]]] = {
    Alert.PORTAL_PAUSED: (
        "A portal is paused: its events wait in the queue. No event is lost, and no attempt is spent.",
        (
            "not_authorized: renew HUBSPOT_ACCESS_TOKEN and restart the workers. operator: run `spokes resume`. "
            "Every other pause ends by itself."
        ),
    ),
    Alert.CALLS_PAUSED: (
        (
            "HubSpot fails calls of one kind, or a host of `tools.http` fails. Events that need these calls wait, and "
            "everything else runs. No event is lost, and no attempt is spent by waiting."
        ),
        "It ends by itself when a probe is answered. `spokes pause` shows the paused calls of each portal.",
    ),
    Alert.NO_CREDENTIALS: (
        (
            "Events of a portal arrive, and no worker has that portal's credentials. They are parked for 24 hours, "
            "then become dead letters."
        ),
        (
            "Have the app installed in the portal, or start a worker with the portal's HUBSPOT_ACCESS_TOKEN and list "
            "the portal in PORTAL_IDS, or remove the webhook subscription. `spokes dead replay` runs dead letters "
            "again."
        ),
    ),
    Alert.NEEDS_REINSTALL: (
        (
            "HubSpot refuses a portal's refresh token for good: the portal removed the app, its tokens were revoked, "
            "or (code `refresh_interrupted`) HubSpot replaced them in a refresh whose answer was lost."
        ),
        "No call is made for it. Ask its administrator to install the app again; its parked events then run.",
    ),
    Alert.TOKEN_REFRESH_REFUSED: (
        (
            "HubSpot refuses to refresh one portal's tokens with a code that does not mean a revoked install, or (code "
            "`other_hub`) answered with tokens of another portal, which are not used. Those in use work for up to 30 "
            "minutes; other portals are not affected."
        ),
        (
            "It is tried again every five minutes at most. If it lasts, look the code up at HubSpot, or ask the "
            "portal's administrator to open the install link again."
        ),
    ),
    Alert.OAUTH_APP_REFUSED: (
        "HubSpot refuses the app itself, so no tokens are refreshed; those in use work for up to 30 minutes.",
        "Compare HUBSPOT_CLIENT_ID and HUBSPOT_CLIENT_SECRET with the Auth page of your HubSpot app.",
    ),
    Alert.WORKER_TOKEN_REFUSED: (
        (
            "HubSpot refuses the access token of some workers. They claim nothing for the portal; its events run on "
            "the workers that have another token."
        ),
        "Set the new HUBSPOT_ACCESS_TOKEN for these workers and restart them; `spokes doctor` names them.",
    ),
    Alert.QUEUE_FILLING: (
        "A limit of the queue, the audit stream or Redis' memory is near; imports, then all events, get a 503.",
        "Add workers, check the rate budget, or give Redis more memory.",
    ),
    Alert.JOURNAL_REFUSED: (
        "HubSpot refuses to let the app read its journal. Pushed events still arrive; what they miss is not recovered.",
        "Check HUBSPOT_CLIENT_ID and HUBSPOT_CLIENT_SECRET, and that the app may use the webhooks journal.",
    ),
    Alert.JOURNAL_BEHIND: (
        "The journal was last read to its end 24 hours ago. It keeps three days, so nothing is lost yet.",
        "Look whether the reader runs (`spokes doctor`), and at `journal_read_failed` in its log.",
    ),
    Alert.JOURNAL_EXPIRING: (
        "The journal was last read to its end 60 hours ago. After 72 hours HubSpot deletes what was not read.",
        "Start the reader now: `heroku ps:scale journal=1`, or JOURNAL=1. What is lost all the same becomes a gap.",
    ),
    Alert.JOURNAL_RESTARTED: (
        "The journal does not know its reader's last offset any more; it is read again from its earliest page.",
        "`spokes gaps list` shows whether anything was published that the journal has deleted.",
    ),
    Alert.JOURNAL_PAGE_LOST: (
        (
            "A page of the journal cannot be read: its file is gone or broken, or HubSpot does not say where it is. "
            "The reader goes on."
        ),
        "`spokes gaps list` names the interval; `spokes backfill` reads the records that changed in it.",
    ),
    Alert.CLAIMS_STOPPED: (
        "Workers begin no delivery: Redis is nearly full, or a key of Spokes holds another type of value. Events wait.",
        (
            "memory: it ends once the archiver has freed some; else give Redis more. key_type: find out what else uses "
            "this Redis; a worker renames the listed keys within seconds, if its Redis user may."
        ),
    ),
    Alert.EVENTS_LOST: (
        "Accepted deliveries have neither an outcome in the audit nor a job in Redis, longer than any retry takes.",
        "Find out what deletes keys in this Redis: another program, an eviction or a restored backup.",
    ),
    Alert.REDIS_DATA_LOST: (
        (
            "Redis has lost data of Spokes (`lost`: everything, audit_stream or queue). `deliveries` were queued and "
            "`audit_records` not archived when Redis was last seen with them. Work goes on with what is left."
        ),
        (
            "Find out what deletes keys in this Redis. After everything: `spokes gaps list` names the interval, "
            "`spokes backfill` reads the records that changed in it, and `spokes user add` creates accounts again. "
            "The alert ends after a day."
        ),
    ),
    Alert.GAPS_OPEN: (
        "Events may have been missed in an interval, and nothing has proven yet that none was.",
        "`spokes gaps list` names the intervals; `spokes backfill` reads the records that changed in them.",
    ),
    Alert.RECONCILIATION_FAILED: (
        "Yesterday's records of some portals could not be compared with the audit. It is tried again every 15 minutes.",
        "`error` says why. `spokes gaps reconcile --day DATE` compares a day that has passed since.",
    ),
    Alert.AUDIT_UNAVAILABLE: (
        "The audit store does not answer. Audit records wait in Redis, and none is lost.",
        "Repair the server that DATABASE_URL names, or run `spokes migrate`.",
    ),
    Alert.AUDIT_BACKLOG: (
        "More audit records than AUDIT_BACKLOG wait in Redis for the audit store.",
        "Check that the audit store answers and that workers are running.",
    ),
    Alert.AUDIT_CHAIN_BROKEN: (
        "The audit in SQL is not what was archived: records or checkpoints were changed, removed or inserted.",
        "`spokes audit verify` says where. After restoring a backup of the audit store: docs/operations.md.",
    ),
    Alert.CHECKPOINT_NOT_KEPT: (
        "A checkpoint of the audit could not be sent to CHECKPOINT_TO; the next one is tried in an hour.",
        "Repair the file or the server that CHECKPOINT_TO names.",
    ),
    Alert.UNUSUAL_DELETIONS: (
        "Many records were deleted in 24 hours.",
        "Find out who deletes them: `spokes audit query --since 1d`.",
    ),
    Alert.UNUSUAL_PRIVACY_DELETIONS: (
        "Many people were erased in 24 hours.",
        "Find out who requested it: `spokes privacy list --all`.",
    ),
    Alert.UNUSUAL_MERGES: ("Many records were merged in 24 hours.", "Look for a tool that removes duplicates."),
    Alert.UNUSUAL_SIGNATURE_FAILURES: (
        "Many requests had an invalid signature in 24 hours.",
        "If they come from HubSpot, `spokes explain-signature` explains why; otherwise restrict ALLOWED_ADDRESSES.",
    ),
    Alert.UNUSUAL_DEAD_LETTERS: (
        "Many events could not be processed in 24 hours.",
        "`spokes dead list` shows the reasons; when they are fixed, `spokes dead replay` runs the events again.",
    ),
    Alert.SECRET_AGEING: ("A secret will soon be 90 days old.", "Plan its rotation: docs/operations.md."),
    Alert.SECRET_OLD: ("A secret is older than 90 days.", "Rotate it: docs/operations.md."),
    Alert.TOKEN_IN_REDIS: (
        "A Redis key holds text that looks like an access token.",
        "Find out which handler or tool wrote it, rotate the token, and delete the key.",
    ),
    Alert.PRIVACY_REQUEST_DUE: (
        "An erasure request is due within a week and not finished.",
        "`spokes privacy list`, then `spokes privacy erase --resume`.",
    ),
    Alert.DELIVERY_OVERDUE: (
        "A delivery is in progress for five times HANDLER_TIMEOUT_S, at least a minute.",
        "`spokes queue` names its handlers and its worker. Restart that worker: the delivery then runs elsewhere.",
    ),
    Alert.SUBSCRIPTIONS_DRIFTED: (
        "Events that handlers wait for do not come: no subscription, no scope, or a target URL of another host.",
        "`spokes subscriptions drift` names them, with what to do about each.",
    ),
    Alert.ACCESS_TOKEN_REFUSED: (
        "HubSpot rejected the access token, so a worker did not start.",
        "Copy the access token from the Auth page of your HubSpot app.",
    ),
    Alert.UNREADABLE_DELIVERY: (
        "An unknown job, or an event that is none, was found in the queue and quarantined.",
        "`spokes dead list --quarantined` shows it. Find out what else writes to this Redis, or which version did.",
    ),
    Alert.AUDIT_STREAM_UNREADABLE: (
        "An entry of the audit stream is not an audit record; the audit record of this alert names the entry.",
        "Find out what else writes to this Redis.",
    ),
    Alert.AUDIT_STREAM_FORGED: (
        "An entry of the audit stream was not signed with AUDIT_KEY. It was not archived; its place is in the audit.",
        "Find out who can write to this Redis, or which process has another AUDIT_KEY or an earlier version.",
    ),
    Alert.ELEMENTS_QUARANTINED: (
        "HubSpot sent elements that are no events. They are kept for DEAD_LETTER_DAYS, and the other events run.",
        "`spokes dead list --quarantined` shows why; after a fix, `spokes dead replay --quarantined` runs them.",
    ),
    Alert.SIGNED_REQUEST_UNREADABLE: (
        "HubSpot signed a request that cannot be split into events. It was refused, so HubSpot sends it again.",
        "`spokes dead list --quarantined` shows the body that was kept; look for a proxy that changes requests.",
    ),
    Alert.REDIS_ITEM_UNREADABLE: (
        "An item in Redis is unreadable and was skipped; everything else goes on. `place` says of which kind it is.",
        "Find out what else writes to this Redis, or which version of Spokes wrote the item.",
    ),
    Alert.REDIS_KEY_REPLACED: (
        (
            "Something else wrote keys of Spokes in Redis. They were renamed to spokes:foreign:..., and Spokes goes on "
            "with keys of its own: jobs are queued again, and pauses stay. What else the keys held is lost."
        ),
        "Find out what else uses this Redis, and give it a database of its own. `spokes pause` shows the pauses.",
    ),
    Alert.REWRITE_LOOP: (
        "Two handlers, or a handler and an automation in HubSpot, overwrite each other's values; our handler stopped.",
        "Check the named handlers, or the HubSpot workflows that set the property.",
    ),
    Alert.CRASH_LOOP: (
        "An event killed its worker each time it ran. It is now a dead letter, and the other events run again.",
        "`spokes dead show` names its handler: look for unbounded memory or a crash in C, then `spokes dead replay`.",
    ),
    Alert.PROCESS_CALL_REFUSED: (
        "A handler tried to end, stop, signal or fork its worker. The call raised an error, and its event is dead.",
        "Remove the named `call` from the handler: raise an exception to fail an event; use `subprocess` to run code.",
    ),
    Alert.LOOP_BLOCKED: (
        "A handler blocks the event loop, and with it all other work of its process.",
        "Use `await` for slow calls, or run them in a thread.",
    ),
    Alert.TOO_MANY_CONNECTIONS: (
        "A web process has too many connections; it closes the oldest ones through which no signed request came.",
        "HubSpot's deliveries go on. Look at the proxy's log for who opens them, and restrict them there.",
    ),
    Alert.BACKGROUND_TASK_FAILED: (
        "A background task of a process failed at the named place; it starts again after a pause.",
        (
            "Report the place as a bug of Spokes. WRONGTYPE: something else wrote a key of Spokes; find out what uses "
            "this Redis."
        ),
    ),
    Alert.WORKER_BLOCKED: (
        "A handler blocked its worker for twice HANDLER_TIMEOUT_S. The worker ended itself; the event will be dead.",
        "Use `await` for slow calls in the named handler, or run them in a thread; then run `spokes dead replay`.",
    ),
    Alert.WORKER_CRASHED: (
        "A worker crashed in C while the named handlers ran. Their events run again, each alone.",
        "Look at what the line `error_at` calls. An event that crashes its worker again becomes a dead letter.",
    ),
    Alert.INTERNAL_ERROR: (
        "Events failed several times by an error of Spokes, not of a handler. They are now dead letters.",
        "Report the place that `delivery_failed` or `internal_error` in the log names, then run `spokes dead replay`.",
    ),
    Alert.WAITING_DID_NOT_HELP: (
        (
            "A handler raised the same error after each pause or wait that the error calls for, and in all attempts "
            "after them. Its event is now a dead letter."
        ),
        (
            "not_authorized: HubSpot accepts the token elsewhere, so look at what the named handler calls, or whether "
            "it raises the error itself. Then run `spokes dead replay`."
        ),
    ),
    Alert.HANDLER_STUCK: (
        "A handler ran beyond HANDLER_TIMEOUT_S and did not end when it was cancelled. Its event is now a dead letter.",
        "Let the named handler pass `asyncio.CancelledError` on, restart the workers, then run `spokes dead replay`.",
    ),
}
