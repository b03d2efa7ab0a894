"""Every Redis key and channel, and in `KEYS` its type, owner and expiry; only Lua scripts spell prefixes themselves.

The names of the console's own keys are made in `console_keys`, those of the rate budget in `budget_keys`, and those of
single handlers in `handler_keys`.
"""

from collections.abc import Mapping
from typing import Final, TypeAlias

from spokes.core.priority import Priority

RedisArg: TypeAlias = str | bytes | int
RedisCommand: TypeAlias = tuple[RedisArg, ...]  # a Redis command, or settle.lua's NEWER, with its arguments

SETTLED_TTL_S: Final = 7 * 86_400  # longer than any pause between two runs of one delivery

# Names of our own: a stock arq worker on the same Redis deletes jobs that it cannot decode.
JOB_QUEUE: Final = "spokes:queue"
IMPORT_QUEUE: Final = "spokes:queue:import"
QUEUES: Final[Mapping[Priority, str]] = {"interactive": JOB_QUEUE, "import": IMPORT_QUEUE}  # a job is in one of them
JOB_KEY_PREFIX: Final = "spokes:job:"
RETRY_KEY_PREFIX: Final = "spokes:retry:"
IN_PROGRESS_KEY_PREFIX: Final = "spokes:in-progress:"
WORKER_HEALTH: Final = "spokes:queue:health-check"

# arq's default names, which earlier versions of Spokes used and other arq applications may use.
DEFAULT_QUEUE: Final = "arq:queue"
DEFAULT_WORKER_HEALTH: Final = "arq:queue:health-check"  # of a worker of an earlier version, or of another application
DEFAULT_JOB_KEY_PREFIX: Final = "arq:job:"
DEFAULT_RETRY_KEY_PREFIX: Final = "arq:retry:"
DEFAULT_IN_PROGRESS_KEY_PREFIX: Final = "arq:in-progress:"

DEPLOYMENT: Final = "spokes:deployment"
WRITE_PROBE: Final = "spokes:probe"
WEB_HEARTBEAT: Final = "spokes:gaps:heartbeat"
GAP_REPORTS: Final = "spokes:gaps:reports"
OPEN_GAPS: Final = "spokes:gaps:open"
REFUSED_EVENTS: Final = "spokes:gaps:refused"
REFUSED_SPANS: Final = "spokes:gaps:refused:spans"
STOPPED_EVENTS: Final = "spokes:gaps:stopped"
RECONCILIATION_LEADER: Final = "spokes:gaps:reconciliation"
WAKE_CHANNEL: Final = "spokes:wake"
AUDIT_STREAM: Final = "spokes:audit"
AUDIT_CHAIN_END: Final = "spokes:audit:end"
ARCHIVER_LEADER: Final = "spokes:audit:archiver"
ALERTS_ACTIVE: Final = "spokes:alerts"
ALERTS_HELD: Final = "spokes:alerts:held"
ALERT_OUTBOX: Final = "spokes:alerts:outbox"
ALERT_OUTBOX_LOCK: Final = "spokes:alerts:outbox:lock"
JOURNAL_CURSOR: Final = "spokes:journal"
JOURNAL_READER: Final = "spokes:journal:reader"
JOURNAL_SCOPES: Final = "spokes:journal:scopes"
LIFECYCLES: Final = "spokes:journal:lifecycles"
PREFERRED_WORKER: Final = "spokes:preferred"
PAUSED_PORTALS: Final = "spokes:paused"
PAUSED_CALLS: Final = "spokes:paused:calls"
HELD_SETS: Final = "spokes:held"
UNREADABLE_JOBS: Final = "spokes:unreadable"
RUNNING_DELIVERIES: Final = "spokes:running"
REGISTRATIONS: Final = "spokes:registrations"
TOKEN_SCOPES: Final = "spokes:scopes"  # noqa: S105 - the name of a key, not a secret
QUARANTINE_PORTALS: Final = "spokes:quarantined"
PORTALS: Final = "spokes:portals"
ERASED_OBJECTS: Final = "spokes:forgotten"
ERASED_HASHES: Final = "spokes:erased"
CREDENTIAL_PORTALS: Final = "spokes:credentials"
BUDGET_PORTALS: Final = "spokes:budgets"
SECRETS_FIRST_SEEN: Final = "spokes:secrets"
HUBSPOT_REFUSED: Final = "spokes:hubspot_refused"
METRIC_TOTALS: Final = "spokes:metrics"
METRIC_GAUGES: Final = "spokes:figures"
METRIC_GAUGES_LOCK: Final = "spokes:figures:lock"
METRIC_HISTORY: Final = "spokes:minutes"
METRIC_HISTORY_LOCK: Final = "spokes:minutes:lock"
LIVE_PROCESSES: Final = "spokes:processes"
TOKEN_SCAN_CURSOR: Final = "spokes:watch:cursor"  # noqa: S105 - the name of a key, not a secret
TOKEN_SCAN_FOUND: Final = "spokes:watch:cursor:found"  # noqa: S105 - likewise
SEALED_PREFIX: Final = "spokes:sealed:"
PORTAL_PROFILES: Final = "spokes:portal_settings"
REFRESHES: Final = "spokes:oauth:refreshes"
APP_BACKOFF: Final = "spokes:oauth:backoff"
CONSOLE_USERS: Final = "spokes:console:users"


def reconciled_day(portal_id: int, object_type: str) -> str:
    """Return the key of the newest day that was compared with HubSpot's records of a type."""
    return f"spokes:{portal_id}:reconciled:{object_type}"


def foreign_value(name: str) -> str:
    """Return the new name of a value that something else wrote under the name of a key of ours."""
    return f"spokes:foreign:{name.removeprefix('spokes:')}"


def settled_events(portal_id: int, delivery_id: str) -> str:
    """Return the key of a delivery's settled events."""
    return f"spokes:{portal_id}:settled:{delivery_id}"


def lane(portal_id: int, object_type: str, object_id: str) -> str:
    """Return the key of the lease on an object."""
    return f"spokes:{portal_id}:lane:{object_type}:{object_id}"


def newest_timestamps(portal_id: int, object_type: str, object_id: str) -> str:
    """Return the key of an object's newest applied timestamps."""
    return f"spokes:{portal_id}:newest:{object_type}:{object_id}"


def once_effects(portal_id: int, object_type: str, object_id: str) -> str:
    """Return the key of the effects of `tools.once` on an object."""
    return f"spokes:{portal_id}:once:{object_type}:{object_id}"


def dead_letter(portal_id: int, event_key: str) -> str:
    """Return the key of a dead letter."""
    return f"spokes:{portal_id}:dead:{event_key}"


def dead_letters_by_time(portal_id: int) -> str:
    """Return the key of the index of a portal's dead letters."""
    return f"spokes:{portal_id}:dead"


def dead_letter_causes(portal_id: int) -> str:
    """Return the key of the causes of a portal's dead letters."""
    return f"spokes:{portal_id}:dead_causes"


def dead_letters_by_cause(portal_id: int, reason: str, handler: str) -> str:
    """Return the key of the index of a portal's dead letters of one cause."""
    return f"spokes:{portal_id}:dead_of:{reason}:{handler}"


def missing_object_letters(portal_id: int, object_type: str, object_id: str) -> str:
    """Return the key of the dead letters of an object that HubSpot did not find."""
    return f"spokes:{portal_id}:missing:{object_type}:{object_id}"


def quarantined_content(portal_id: int, key: str) -> str:
    """Return the key of a quarantined element or body."""
    return f"spokes:{portal_id}:quarantined:{key}"


def quarantine_index(portal_id: int) -> str:
    """Return the key of the index of a portal's quarantined contents."""
    return f"spokes:{portal_id}:quarantined"


def parked_deliveries(portal_id: int) -> str:
    """Return the key of the deliveries that are parked because no worker has the portal's credentials."""
    return f"spokes:{portal_id}:parked"


def held_deliveries(portal_id: int, call_kind: str) -> str:
    """Return the key of the deliveries that wait because calls of a kind, or all, are paused."""
    return f"spokes:{portal_id}:held:{call_kind}"


def probe(portal_id: int, call_kind: str) -> str:
    """Return the key of the delivery of which one event probes calls of a kind."""
    return f"spokes:{portal_id}:probe:{call_kind}"


def token_reports(portal_id: int) -> str:
    """Return the key of what each worker reported about its access token."""
    return f"spokes:{portal_id}:tokens"


def refresh_lease(portal_id: int) -> str:
    """Return the key of the lease of the process that refreshes a portal's OAuth tokens."""
    return f"spokes:{portal_id}:refresh"


def refresh_backoff(portal_id: int) -> str:
    """Return the key that exists while no refresh of a portal's OAuth tokens begins."""
    return f"spokes:{portal_id}:refresh:backoff"


def refresh_request(portal_id: int) -> str:
    """Return the key of the last request for new OAuth tokens of a portal that may have had no answer."""
    return f"spokes:{portal_id}:refresh:request"


def crash_count(portal_id: int, event_key: str) -> str:
    """Return the key of the number of workers that died while they ran an event alone."""
    return f"spokes:{portal_id}:deaths:{event_key}"


def echo_verdict(portal_id: int, event_key: str) -> str:
    """Return the key of whether an event with several handlers is an echo, as found before the first of them ran."""
    return f"spokes:{portal_id}:verdict:{event_key}"


def alert_once(portal_id: int, name: str) -> str:
    """Return the key that exists while an alert or probe must not be repeated."""
    return f"spokes:{portal_id}:episode:{name}"


def surviving_id(portal_id: int, object_type: str, object_id: str) -> str:
    """Return the key of the id that a merged record has now."""
    return f"spokes:{portal_id}:merged:{object_type}:{object_id}"


def has_merges(portal_id: int) -> str:
    """Return the key that exists while any merged record of the portal is known; without it no id is looked up."""
    return f"spokes:{portal_id}:merges"


def portal_prefix(portal_id: int) -> str:
    """Return what the names of a portal's keys begin with, apart from those of jobs."""
    return f"spokes:{portal_id}:"


def object_data(portal_id: int, object_type: str, object_id: str) -> str:
    """Return the pattern of all keys that end with an object's type and id."""
    return f"spokes:{portal_id}:*:{object_type}:{object_id}"


def rewrite_loops(portal_id: int, object_type: str, object_id: str) -> str:
    """Return the key of the writes to an object in the last minute."""
    return f"spokes:{portal_id}:rounds:{object_type}:{object_id}"


def own_write(portal_id: int, entry_hash: str) -> str:
    """Return the key of an entry of the own-write ledger."""
    return f"spokes:{portal_id}:echo:{entry_hash}"


def dedupe_marks_prefix(portal_id: int, hour: int) -> str:
    """Return the prefix of the sets of dedupe marks of one hour; a set's number or `n` follows."""
    return f"spokes:{portal_id}:seen:{hour}:"


def redelivery_count(portal_id: int, redelivery_id: str) -> str:
    """Return the key of the number of times that a request came again."""
    return f"spokes:{portal_id}:redelivered:{redelivery_id}"


def failed_signatures(window: int, address_hash: str) -> str:
    """Return the key of the number of failed signatures of one address in one minute."""
    return f"spokes:failures:{window}:{address_hash}"


def arrivals_of_day(day: int) -> str:
    """Return the key of what arrived on a day, given as the number of days since the epoch."""
    return f"spokes:arrivals:{day}"


def hourly_counts(hour: int) -> str:
    """Return the key of the counts of one hour for anomaly alerts."""
    return f"spokes:watch:volumes:{hour}"


def periodic_job(name: str) -> str:
    """Return the key of the period in which a periodic job last ran."""
    return f"spokes:schedule:{name}"


def periodic_job_lock(name: str) -> str:
    """Return the key of the lease on a periodic job."""
    return f"spokes:schedule:{name}:lock"
