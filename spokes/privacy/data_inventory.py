"""Every kind of datum we store: where, why, for how long, and how it is erased.

This is the record of processing that a data-processing agreement needs. `python -m spokes.privacy.data_inventory`
prints docs/data.md. A Redis key or a table that is missing here fails a test.
"""

from typing import Final, NamedTuple

from spokes.core.redis import keys
from spokes.core.redis.key_table import KEYS

# Why
_PROCESSING: Final = "process each event once, in order, with retries"
_FAILURES: Final = "let an operator run or close what failed"
_ACCOUNTABILITY: Final = "prove what was received, decided and written"
_OPERATION: Final = "run and watch the processes"
_LIMITS: Final = "keep HubSpot's rate limits"
_ACCESS: Final = "control who uses the console"
_PRIVACY: Final = "carry out erasures"
# How it is erased
_EVENTS: Final = "an erasure removes the person's events"
_BY_NAME: Final = "an erasure deletes the keys that end with the object's type and id"
_CLOSED: Final = "an erasure closes and deletes what mentions the person"
_HASHED: Final = "keyed hashes only, without the object's id; expires"
_ARCHIVED: Final = "an erasure archives it and replaces the id by its hash"
_NO_PERSON: Final = "no data of the people whose records HubSpot holds"
_LEASE: Final = "a lease without data; expires"
_UNNAMED: Final = "an erasure replaces the person's ids in the text"
_WITH_ACCOUNT: Final = "`spokes user remove`, or expires"


class Treatment(NamedTuple):
    """Why something is stored, and how it is erased."""

    purpose: str
    erasure: str


_NOTHING_PERSONAL: Final = Treatment(_OPERATION, _NO_PERSON)
_OBJECT: Final = "{object_type}:{object_id}"
REDIS: Final[dict[str, Treatment]] = {
    keys.JOB_QUEUE: Treatment(_PROCESSING, _NO_PERSON),
    keys.IMPORT_QUEUE: Treatment(_PROCESSING, _NO_PERSON),
    keys.JOB_KEY_PREFIX + "{delivery_id}": Treatment(_PROCESSING, _EVENTS),
    keys.RETRY_KEY_PREFIX + "{delivery_id}": Treatment(_PROCESSING, _NO_PERSON),
    keys.IN_PROGRESS_KEY_PREFIX + "{delivery_id}": Treatment(_PROCESSING, _LEASE),
    keys.WORKER_HEALTH: _NOTHING_PERSONAL,
    keys.DEFAULT_QUEUE: Treatment(_PROCESSING, _NO_PERSON),
    keys.DEFAULT_WORKER_HEALTH: _NOTHING_PERSONAL,
    keys.DEFAULT_JOB_KEY_PREFIX + "{delivery_id}": Treatment(
        _PROCESSING, f"{_EVENTS}; jobs of other applications are not touched"
    ),
    keys.DEFAULT_RETRY_KEY_PREFIX + "{delivery_id}": Treatment(_PROCESSING, _NO_PERSON),
    keys.DEFAULT_IN_PROGRESS_KEY_PREFIX + "{delivery_id}": Treatment(_PROCESSING, _LEASE),
    keys.DEPLOYMENT: _NOTHING_PERSONAL,
    "spokes:foreign:{name}": Treatment(_OPERATION, "not read: another program wrote it; expires"),
    keys.WAKE_CHANNEL: _NOTHING_PERSONAL,
    keys.AUDIT_STREAM: Treatment(_ACCOUNTABILITY, _ARCHIVED),
    keys.AUDIT_CHAIN_END: Treatment(_ACCOUNTABILITY, _NO_PERSON),
    keys.WRITE_PROBE: _NOTHING_PERSONAL,
    keys.ARCHIVER_LEADER: Treatment(_OPERATION, _LEASE),
    keys.ALERTS_ACTIVE: _NOTHING_PERSONAL,
    keys.ALERT_OUTBOX: _NOTHING_PERSONAL,
    keys.ALERT_OUTBOX_LOCK: Treatment(_OPERATION, _LEASE),
    keys.ALERTS_HELD: _NOTHING_PERSONAL,
    keys.HELD_SETS: _NOTHING_PERSONAL,
    "spokes:alerts:told:{name}": _NOTHING_PERSONAL,
    keys.PAUSED_PORTALS: Treatment(_OPERATION, "the operator's reason is deleted when the portal is resumed"),
    keys.PAUSED_CALLS: _NOTHING_PERSONAL,
    keys.UNREADABLE_JOBS: Treatment(_FAILURES, _CLOSED),
    keys.RUNNING_DELIVERIES: _NOTHING_PERSONAL,
    keys.REGISTRATIONS: _NOTHING_PERSONAL,
    "spokes:arrivals:{day}": _NOTHING_PERSONAL,
    keys.TOKEN_SCOPES: _NOTHING_PERSONAL,
    keys.PORTALS: _NOTHING_PERSONAL,
    keys.ERASED_OBJECTS: Treatment(_PRIVACY, "deleted when the second purge finds nothing, minutes later"),
    keys.ERASED_HASHES: Treatment(_PRIVACY, _HASHED),
    keys.CREDENTIAL_PORTALS: _NOTHING_PERSONAL,
    "spokes:{portal_id}:parked": _NOTHING_PERSONAL,
    "spokes:{portal_id}:held:{call_kind}": _NOTHING_PERSONAL,
    "spokes:{portal_id}:probe:{call_kind}": _NOTHING_PERSONAL,
    "spokes:{portal_id}:tokens": _NOTHING_PERSONAL,
    keys.BUDGET_PORTALS: Treatment(_LIMITS, _NO_PERSON),
    keys.SECRETS_FIRST_SEEN: _NOTHING_PERSONAL,
    keys.HUBSPOT_REFUSED: _NOTHING_PERSONAL,
    keys.METRIC_TOTALS: _NOTHING_PERSONAL,
    keys.METRIC_GAUGES: _NOTHING_PERSONAL,
    keys.METRIC_GAUGES_LOCK: Treatment(_OPERATION, _LEASE),
    keys.METRIC_HISTORY: _NOTHING_PERSONAL,
    keys.METRIC_HISTORY_LOCK: Treatment(_OPERATION, _LEASE),
    keys.LIVE_PROCESSES: _NOTHING_PERSONAL,
    keys.WEB_HEARTBEAT: _NOTHING_PERSONAL,
    keys.GAP_REPORTS: _NOTHING_PERSONAL,
    keys.OPEN_GAPS: _NOTHING_PERSONAL,
    keys.REFUSED_EVENTS: Treatment(_OPERATION, _HASHED),
    keys.REFUSED_SPANS: _NOTHING_PERSONAL,
    keys.STOPPED_EVENTS: _NOTHING_PERSONAL,
    keys.RECONCILIATION_LEADER: Treatment(_OPERATION, _LEASE),
    "spokes:{portal_id}:reconciled:{object_type}": _NOTHING_PERSONAL,
    keys.JOURNAL_CURSOR: _NOTHING_PERSONAL,
    keys.JOURNAL_READER: Treatment(_OPERATION, _LEASE),
    keys.JOURNAL_SCOPES: _NOTHING_PERSONAL,
    keys.LIFECYCLES: _NOTHING_PERSONAL,
    keys.PREFERRED_WORKER: _NOTHING_PERSONAL,
    keys.TOKEN_SCAN_CURSOR: _NOTHING_PERSONAL,
    keys.TOKEN_SCAN_FOUND: _NOTHING_PERSONAL,
    keys.SEALED_PREFIX + "{portal_id}": _NOTHING_PERSONAL,
    keys.REFRESHES: _NOTHING_PERSONAL,
    keys.PORTAL_PROFILES: _NOTHING_PERSONAL,
    keys.APP_BACKOFF: _NOTHING_PERSONAL,
    "spokes:{portal_id}:refresh": _NOTHING_PERSONAL,
    "spokes:{portal_id}:refresh:backoff": _NOTHING_PERSONAL,
    "spokes:{portal_id}:refresh:request": _NOTHING_PERSONAL,
    "spokes:handler:{handler}:runs": Treatment(
        _PROCESSING, "lanes with the object's id; the next start removes ended ones"
    ),
    "spokes:handler:{handler}:starts": Treatment(_PROCESSING, "lanes with the object's id; expires after one period"),
    "spokes:handler:{handler}:turn": _NOTHING_PERSONAL,
    "spokes:host:{host}:calls": _NOTHING_PERSONAL,
    "spokes:host:{host}:turn": _NOTHING_PERSONAL,
    "spokes:{portal_id}:settled:{delivery_id}": Treatment(_PROCESSING, _HASHED),
    f"spokes:{{portal_id}}:lane:{_OBJECT}": Treatment(_PROCESSING, "a lease of 7 s with the object's id in its name"),
    f"spokes:{{portal_id}}:newest:{_OBJECT}": Treatment(_PROCESSING, _BY_NAME),
    f"spokes:{{portal_id}}:once:{_OBJECT}": Treatment(_PROCESSING, _BY_NAME),
    f"spokes:{{portal_id}}:once:{_OBJECT}:{{effect}}": Treatment(_PROCESSING, _BY_NAME),
    "spokes:{portal_id}:dead:{event_key}": Treatment(_FAILURES, _CLOSED),
    "spokes:{portal_id}:dead": Treatment(_FAILURES, "with its letters"),
    "spokes:{portal_id}:dead_causes": Treatment(_FAILURES, _NO_PERSON),
    "spokes:{portal_id}:dead_of:{reason}:{handler}": Treatment(_FAILURES, "with its letters"),
    f"spokes:{{portal_id}}:missing:{_OBJECT}": Treatment(_FAILURES, _BY_NAME),
    keys.QUARANTINE_PORTALS: _NOTHING_PERSONAL,
    "spokes:{portal_id}:quarantined:{key}": Treatment(_FAILURES, _CLOSED),
    "spokes:{portal_id}:quarantined": Treatment(_FAILURES, "with its contents"),
    "spokes:{portal_id}:deaths:{event_key}": Treatment(_PROCESSING, _HASHED),
    "spokes:{portal_id}:episode:{name}": _NOTHING_PERSONAL,
    f"spokes:{{portal_id}}:merged:{_OBJECT}": Treatment(_PROCESSING, _BY_NAME),
    "spokes:{portal_id}:merges": Treatment(_PROCESSING, _NO_PERSON),
    f"spokes:{{portal_id}}:rounds:{_OBJECT}": Treatment(_PROCESSING, _BY_NAME),
    "spokes:{portal_id}:echo:{entry_hash}": Treatment(_PROCESSING, _HASHED),
    "spokes:{portal_id}:verdict:{event_key}": Treatment(_PROCESSING, _HASHED),
    "spokes:{portal_id}:budget": Treatment(_LIMITS, _NO_PERSON),
    "spokes:{portal_id}:budget:{kind}": Treatment(_LIMITS, _NO_PERSON),
    "spokes:{portal_id}:budget:{kind}:background": Treatment(_LIMITS, _NO_PERSON),
    "spokes:{portal_id}:budget:{kind}:queues": Treatment(_LIMITS, _NO_PERSON),
    "spokes:{portal_id}:budget:{kind}:round-trips": Treatment(_LIMITS, _NO_PERSON),
    "spokes:{portal_id}:seen:{hour}:{number}": Treatment(_PROCESSING, _HASHED),
    "spokes:{portal_id}:redelivered:{redelivery_id}": Treatment(_PROCESSING, _HASHED),
    "spokes:failures:{window}:{address_hash}": Treatment(_ACCESS, _HASHED),
    "spokes:watch:volumes:{hour}": _NOTHING_PERSONAL,
    "spokes:schedule:{name}": _NOTHING_PERSONAL,
    "spokes:schedule:{name}:lock": Treatment(_OPERATION, _LEASE),
    keys.CONSOLE_USERS: Treatment(_ACCESS, _WITH_ACCOUNT),
    "spokes:console:session:{cookie_hash}": Treatment(_ACCESS, _WITH_ACCOUNT),
    "spokes:console:sessions:{user}": Treatment(_ACCESS, _WITH_ACCOUNT),
    "spokes:console:link:{token_hash}": Treatment(_ACCESS, _WITH_ACCOUNT),
    "spokes:console:revoked:{token_hash}": Treatment(_ACCESS, _HASHED),
    "spokes:console:limit:{limit}:{subject_hash}:{window}": Treatment(_ACCESS, _HASHED),
    "spokes:console:install:{nonce_hash}": Treatment(_ACCESS, _HASHED),
}


class StoredData(NamedTuple):
    """A table or a file: what it holds, for how long, why, and how it is erased."""

    holds: str
    kept: str
    purpose: str
    erasure: str


TABLES: Final[dict[str, StoredData]] = {
    "audit_records": StoredData(
        "outcomes of events, writes and operator actions: ids of objects, names, never values", "AUDIT_DAYS",
        _ACCOUNTABILITY, "an erasure replaces the id by its keyed hash; operators' names and reasons (masked) stay",
    ),
    "audit_head": StoredData("hash of the last record", "none", _ACCOUNTABILITY, _NO_PERSON),
    "audit_checkpoints": StoredData("signed hashes of records", "AUDIT_DAYS", _ACCOUNTABILITY, _NO_PERSON),
    "audit_stream": StoredData("until when unsigned records are accepted", "none", _ACCOUNTABILITY, _NO_PERSON),
    "audit_erased": StoredData("keyed hashes of erased objects", "none", _PRIVACY, "keyed hashes only"),
    "privacy_requests": StoredData(
        "erasure requests; the person's ids until done", "none", _PRIVACY, "the ids are deleted when it is done"
    ),
    "incidents": StoredData(
        "incidents: title (masked), times, operators' names", "none", _ACCOUNTABILITY, _UNNAMED
    ),
    "incident_notes": StoredData("notes of incidents (masked)", "none", _ACCOUNTABILITY, _UNNAMED),
    "installed_portals": StoredData(
        "portals that installed the app: name, scopes, state; OAuth tokens, sealed",
        "tokens until uninstalled, name and scopes UNINSTALLED_DAYS longer", _PROCESSING, _NO_PERSON,
    ),
    "portal_settings": StoredData(
        "settings of single portals; those of handlers' own are sealed", "UNINSTALLED_DAYS after the uninstall",
        _PROCESSING, _NO_PERSON,
    ),
    "push_subscriptions": StoredData("subscriptions of the app that we created", "none", _PROCESSING, _NO_PERSON),
    "journal_subscriptions": StoredData(
        "what we put into subscriptions to HubSpot's journal: object types, actions, properties, filters",
        "none",
        _PROCESSING,
        _NO_PERSON,
    ),
    "gaps": StoredData(
        "intervals in which events may have been missed; the operator and the reason that closed one", "none",
        _ACCOUNTABILITY, _NO_PERSON,
    ),
    "backfills": StoredData(
        "backfills: interval, counts, the last object id read, the operator's name", "none", _OPERATION, _NO_PERSON,
    ),
}  # fmt: skip
FILES: Final[dict[str, StoredData]] = {
    "append-only file and snapshot of Redis": StoredData(
        "what Redis holds and held", "until rewritten", _PROCESSING, "an erasure rewrites them where Redis allows it"
    ),
    "file and write-ahead log of SQLite": StoredData(
        "what the tables hold and held", "until rewritten", _ACCOUNTABILITY, "an erasure rewrites them"
    ),
    "write-ahead log of PostgreSQL": StoredData(
        "what the tables held", "the server's setting", _ACCOUNTABILITY, "recycled by the server; an erasure says so"
    ),
    "`DATA_DIR/audit.key`": StoredData("a generated key", "none", _ACCOUNTABILITY, _NO_PERSON),
    "`DATA_DIR/workers/*.trace`": StoredData(
        "delivery ids, event keys and handlers of calls in progress; stacks of a crash, without values",
        "until the worker ends, or the next one has read it", _OPERATION, _NO_PERSON,
    ),
    "file of `CHECKPOINT_TO`": StoredData("signed hashes", "yours to decide", _ACCOUNTABILITY, _NO_PERSON),
    "files of `privacy export` and `audit export`": StoredData(
        "what was exported", "yours to decide", "answer requests of people", "yours to delete"
    ),
    "files of `incident export`": StoredData(
        "ids of affected objects, audit records, notes; signed", "yours to decide", _ACCOUNTABILITY, "yours to delete"
    ),
    "logs, Sentry, alert webhook": StoredData("names, ids, counts; masked", "yours to decide", _OPERATION, _NO_PERSON),
    "backups and replicas": StoredData("as their source", "yours to decide", _OPERATION, "yours to delete"),
}  # fmt: skip

_HEADER: Final = """# Stored data

Every kind of datum that Spokes stores: where, why, for how long, and how it is erased. The owner of the portal is the
controller; `spokes privacy erase` carries out an erasure and reports what remains. This page is printed by
`python -m spokes.privacy.data_inventory`.
"""


def page() -> str:
    """Return docs/data.md."""
    columns = ("where", "what", "why", "how long", "how it is erased")
    redis = [
        (f"`{key.pattern}`", key.holds, REDIS[key.pattern].purpose, key.expiry, REDIS[key.pattern].erasure)
        for key in KEYS
    ]
    tables = [(f"`{name}`", data.holds, data.purpose, data.kept, data.erasure) for name, data in TABLES.items()]
    files = [(name, data.holds, data.purpose, data.kept, data.erasure) for name, data in FILES.items()]
    parts = [_HEADER]
    for title, rows in (("Redis", redis), ("Audit store (SQL)", tables), ("Files and other systems", files)):
        lines = [f"| {' | '.join(columns)} |", "| --- | --- | --- | --- | --- |"]
        parts.append(f"## {title}\n\n" + "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 - the script's purpose
