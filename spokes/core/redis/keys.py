"""Every Redis key and channel, and in `KEYS` its type, owner and expiry; only Lua scripts spell prefixes themselves.

The names of the console's own keys are made in `console_keys`, those of the rate budget in `budget_keys`, and those of
single handlers in `handler_keys`.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias

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
DEFAULT_JOB_KEY_PREFIX: Final = "arq:job:"
DEFAULT_RETRY_KEY_PREFIX: Final = "arq:retry:"
DEFAULT_IN_PROGRESS_KEY_PREFIX: Final = "arq:in-progress:"

DEPLOYMENT: Final = "spokes:deployment"
WRITE_PROBE: Final = "spokes:probe"
WAKE_CHANNEL: Final = "spokes:wake"
AUDIT_STREAM: Final = "spokes:audit"
AUDIT_CHAIN_END: Final = "spokes:audit:end"
ARCHIVER_LEADER: Final = "spokes:audit:archiver"
ALERTS_ACTIVE: Final = "spokes:alerts"
ALERTS_HELD: Final = "spokes:alerts:held"
ALERT_OUTBOX: Final = "spokes:alerts:outbox"
ALERT_OUTBOX_LOCK: Final = "spokes:alerts:outbox:lock"
PAUSED_PORTALS: Final = "spokes:paused"
PAUSED_CALLS: Final = "spokes:paused:calls"
UNREADABLE_JOBS: Final = "spokes:unreadable"
RUNNING_DELIVERIES: Final = "spokes:running"
REGISTRATIONS: Final = "spokes:registrations"
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
CONSOLE_USERS: Final = "spokes:console:users"


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
    """Return the key of the deliveries whose events wait because calls of a kind are paused."""
    return f"spokes:{portal_id}:held:{call_kind}"


def probe(portal_id: int, call_kind: str) -> str:
    """Return the key of the delivery of which one event probes calls of a kind."""
    return f"spokes:{portal_id}:probe:{call_kind}"


def token_reports(portal_id: int) -> str:
    """Return the key of what each worker reported about its access token."""
    return f"spokes:{portal_id}:tokens"


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


def portal_prefixes(portal_id: int) -> tuple[str, str, str]:
    """Return the prefixes of the keys `lane`, `surviving_id` and `newest_timestamps`; object type and id follow."""
    portal = f"spokes:{portal_id}"
    return f"{portal}:lane:", f"{portal}:merged:", f"{portal}:newest:"


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


def hourly_counts(hour: int) -> str:
    """Return the key of the counts of one hour for anomaly alerts."""
    return f"spokes:watch:volumes:{hour}"


def periodic_job(name: str) -> str:
    """Return the key of the period in which a periodic job last ran."""
    return f"spokes:schedule:{name}"


def periodic_job_lock(name: str) -> str:
    """Return the key of the lease on a periodic job."""
    return f"spokes:schedule:{name}:lock"


class RedisKey(NamedTuple):
    """One kind of key or channel; `pattern` has the parameters of its function in braces."""

    pattern: str
    type: str
    owner: str  # module that writes it
    expiry: str
    holds: str


_OBJECT: Final = "{object_type}:{object_id}"
KEYS: Final = (
    RedisKey(JOB_QUEUE, "sorted set", "spokes.intake.admission, workers.delivery", "none",
             "ids of due and scheduled jobs, by the epoch ms at which they are due"),
    RedisKey(IMPORT_QUEUE, "sorted set", "spokes.intake.admission, workers.delivery", "none",
             "the same of jobs whose events are of the import class"),
    RedisKey(JOB_KEY_PREFIX + "{delivery_id}", "string", "spokes.intake.admission, workers.delivery", "none",
             "a delivery as an arq job"),
    RedisKey(RETRY_KEY_PREFIX + "{delivery_id}", "string", "workers.queue", "1 day", "how often a job was claimed"),
    RedisKey(IN_PROGRESS_KEY_PREFIX + "{delivery_id}", "string", "workers.queue", "lease, renewed",
             "the lease on a job: the worker that runs it"),
    RedisKey(WORKER_HEALTH, "string", "workers.queue", "1 h", "what the worker that wrote last has done"),
    RedisKey(DEFAULT_QUEUE, "sorted set", "spokes.queue.default_queue", "none",
             "arq's default queue: jobs of other arq applications, and of earlier versions of Spokes until taken over"),
    RedisKey(DEFAULT_JOB_KEY_PREFIX + "{delivery_id}", "string", "spokes.queue.default_queue", "none", "such a job"),
    RedisKey(DEFAULT_RETRY_KEY_PREFIX + "{delivery_id}", "string", "spokes.queue.default_queue", "1 day",
             "how often such a job was claimed"),
    RedisKey(DEFAULT_IN_PROGRESS_KEY_PREFIX + "{delivery_id}", "string", "spokes.queue.default_queue",
             "lease, renewed", "the lease on such a job: it is not taken over"),
    RedisKey(DEPLOYMENT, "hash", "spokes.core.redis.deployment", "none",
             "fingerprint of the deployment that the database belongs to, and the format of its data"),
    RedisKey(WRITE_PROBE, "string", "spokes.intake.admission", "at once", "what a readiness check writes and deletes"),
    RedisKey(WAKE_CHANNEL, "channel", "spokes.intake.admission", "-", "a message wakes idle workers: a job is due"),
    RedisKey(AUDIT_STREAM, "stream", "spokes.audit.stream", "STREAM_DAYS, or until archived",
             "audit records that wait for the audit store"),
    RedisKey(AUDIT_CHAIN_END, "hash", "spokes.audit.evidence.chain_end", "none",
             "signed hash of the last archived record, and the newest checkpoint"),
    RedisKey(ARCHIVER_LEADER, "string", "spokes.audit.archiver", "3 s, renewed", "the lease of the archiving process"),
    RedisKey(ALERTS_ACTIVE, "hash", "spokes.audit.alert_episodes", "none", "active alerts by name, with details"),
    RedisKey(ALERT_OUTBOX, "list", "spokes.audit.alert_episodes", "1 day", "unsent webhook messages, oldest first"),
    RedisKey(ALERT_OUTBOX_LOCK, "string", "spokes.audit.alert_webhook", "30 s, renewed",
             "the lease of the process that delivers webhook messages"),
    RedisKey(ALERTS_HELD, "hash", "spokes.audit.alert_episodes", "none", "problems not reported yet, by alert"),
    RedisKey("spokes:alerts:told:{name}", "string", "spokes.audit.alert_episodes", "10 min",
             "exists while a repeated alert is not sent again"),
    RedisKey(PAUSED_PORTALS, "hash", "spokes.queue.portal_pauses", "none", "paused portals, with reason and time"),
    RedisKey(PAUSED_CALLS, "hash", "spokes.queue.call_pauses", "none", "paused kinds of calls, with reason and time"),
    RedisKey(UNREADABLE_JOBS, "list", "spokes.queue.unreadable_jobs", "DEAD_LETTER_DAYS", "jobs of earlier versions"),
    RedisKey("spokes:handler:{handler}:runs", "hash", "workers.handlers.limits", "1 day",
             "runs of a handler with a limit: the object's lane, and its token; one without its lane does not count"),
    RedisKey("spokes:handler:{handler}:starts", "sorted set", "workers.handlers.limits", "one period",
             "starts of a handler with a rate, by epoch ms"),
    RedisKey("spokes:handler:{handler}:turn", "string", "workers.handlers.limits", "until then",
             "the epoch ms for which the next refused run of a limited handler is planned"),
    RedisKey(RUNNING_DELIVERIES, "hash", "spokes.queue.running_deliveries", "none",
             "deliveries that a worker has run for seconds, by worker; removed with the last one"),
    RedisKey(REGISTRATIONS, "hash", "spokes.queue.registration_times", "none",
             "epoch ms at which a worker first had each registration, and at which an event first matched it"),
    RedisKey(PORTALS, "set", "spokes.queue.dead_letter_index", "none", "portals that have or had dead letters"),
    RedisKey(ERASED_OBJECTS, "sorted set", "spokes.privacy.redis_purge", "until purged again",
             "erased objects that are purged once more, by the epoch ms of their erasure"),
    RedisKey(ERASED_HASHES, "sorted set", "spokes.queue.erased_objects", "14 days each",
             "keyed hashes of erased objects, by the epoch ms until which late events of them are discarded"),
    RedisKey(CREDENTIAL_PORTALS, "sorted set", "workers.delivery.missing_credentials", "7 days",
             "portals that workers have credentials for, by the epoch s of the last report"),
    RedisKey("spokes:{portal_id}:parked", "sorted set", "workers.delivery.missing_credentials", "until run",
             "deliveries that wait for the portal's credentials, by the epoch ms at which they were parked"),
    RedisKey("spokes:{portal_id}:held:{call_kind}", "sorted set", "workers.delivery.settlement", "until run",
             "deliveries whose events wait because calls of a kind are paused, by the epoch ms since which they wait"),
    RedisKey("spokes:{portal_id}:probe:{call_kind}", "string", "spokes.queue.call_pauses", "5 min", "the probe"),
    RedisKey("spokes:{portal_id}:tokens", "hash", "spokes.queue.token_reports", "1 h", "state of each worker's token"),
    RedisKey(BUDGET_PORTALS, "sorted set", "workers.upkeep.gauges", "none",
             "portals that workers call HubSpot for, by the epoch s of the last report"),
    RedisKey(SECRETS_FIRST_SEEN, "hash", "workers.upkeep.anomaly_watch", "none",
             "fingerprints of secrets, with the epoch ms at which each was first seen"),
    RedisKey(HUBSPOT_REFUSED, "string", "ingest.refusal_log", "1 min",
             "exists while refused requests of HubSpot are not logged again"),
    RedisKey(METRIC_TOTALS, "hash", "spokes.core.telemetry.metric_totals", "7 days without a process",
             "counters and histograms of all processes, by sample key"),
    RedisKey(METRIC_GAUGES, "hash", "workers.upkeep.gauges", "45 s", "gauges that a worker measured, by sample key"),
    RedisKey(METRIC_GAUGES_LOCK, "string", "workers.upkeep.gauges", "9 s", "the lease of the measuring worker"),
    RedisKey(METRIC_HISTORY, "list", "spokes.core.telemetry.metric_history", "4 h", "totals by minute, newest first"),
    RedisKey(METRIC_HISTORY_LOCK, "string", "workers.upkeep.gauges", "55 s",
             "exists while this minute's totals are stored already"),
    RedisKey(LIVE_PROCESSES, "sorted set", "spokes.core.telemetry.metric_totals", "none",
             "live processes, by the epoch s of their last flush"),
    RedisKey(TOKEN_SCAN_CURSOR, "string", "workers.upkeep.anomaly_watch", "none", "cursor of the scan for tokens"),
    RedisKey(TOKEN_SCAN_FOUND, "string", "workers.upkeep.anomaly_watch", "none", "exists if this scan has found one"),
    RedisKey(SEALED_PREFIX + "{portal_id}", "hash", "spokes.crm.transport.stored_secrets", "none",
             "sealed secrets of a portal, by name"),
    RedisKey("spokes:{portal_id}:settled:{delivery_id}", "set", "workers.delivery.settlement", "7 days",
             "event keys of a delivery that need no more work"),
    RedisKey(f"spokes:{{portal_id}}:lane:{_OBJECT}", "string", "workers.delivery.lane_manager", "lease, renewed",
             "the lease on an object: the worker that works on it"),
    RedisKey(f"spokes:{{portal_id}}:newest:{_OBJECT}", "hash", "workers.delivery.settlement", "DEDUPE_HOURS",
             "occurredAt of the newest applied change, by property"),
    RedisKey(f"spokes:{{portal_id}}:once:{_OBJECT}", "hash", "workers.delivery.once", "400 days",
             "effects of tools.once: begun, or the id of the result"),
    RedisKey(f"spokes:{{portal_id}}:once:{_OBJECT}:{{effect}}", "string", "workers.delivery.once", "20 s",
             "exists while an effect may still be in flight"),
    RedisKey("spokes:{portal_id}:dead:{event_key}", "string", "spokes.queue.dead_letters", "DEAD_LETTER_DAYS",
             "a dead letter"),
    RedisKey("spokes:{portal_id}:dead", "sorted set", "spokes.queue.dead_letter_index", "with its letters",
             "event keys of dead letters, by the epoch ms at which they died"),
    RedisKey("spokes:{portal_id}:dead_causes", "set", "spokes.queue.dead_letter_index", "none",
             "causes of dead letters: JSON of reason and handler"),
    RedisKey("spokes:{portal_id}:dead_of:{reason}:{handler}", "sorted set", "spokes.queue.dead_letter_index",
             "with its letters", "event keys of the dead letters of one cause, by the epoch ms at which they died"),
    RedisKey(f"spokes:{{portal_id}}:missing:{_OBJECT}", "set", "spokes.queue.dead_letters", "DEAD_LETTER_DAYS",
             "event keys of dead letters of an object that HubSpot did not find; a merge may replay them"),
    RedisKey(QUARANTINE_PORTALS, "set", "spokes.queue.quarantine", "none", "portals that ever had quarantined content"),
    RedisKey("spokes:{portal_id}:quarantined:{key}", "string", "spokes.queue.quarantine", "DEAD_LETTER_DAYS",
             "an element, a body or a stored delivery that is unreadable, sealed"),
    RedisKey("spokes:{portal_id}:quarantined", "sorted set", "spokes.queue.quarantine", "with its contents",
             "keys of quarantined contents, by the epoch ms at which they were stored"),
    RedisKey("spokes:{portal_id}:deaths:{event_key}", "string", "workers.queue.crash_loops", "1 day",
             "how many workers died while they ran this event alone"),
    RedisKey("spokes:{portal_id}:episode:{name}", "string",
             "spokes.queue.portal_pauses, workers.delivery.rewrite_loops", "10 s or 1 h",
             "exists while a probe or an alert is not repeated"),
    RedisKey(f"spokes:{{portal_id}}:merged:{_OBJECT}", "string", "workers.delivery.merge_map", "60 days",
             "the id that a merged record has now"),
    RedisKey("spokes:{portal_id}:merges", "string", "workers.delivery.merge_map", "60 days",
             "exists while a merged record of the portal is known"),
    RedisKey(f"spokes:{{portal_id}}:rounds:{_OBJECT}", "hash", "workers.delivery.rewrite_loops", "1 min",
             "our writes to an object, and how often each was overwritten"),
    RedisKey("spokes:{portal_id}:echo:{entry_hash}", "string", "spokes.crm.own_writes", "15 min",
             "one of our own writes: the epoch ms of the data it was based on"),
    RedisKey("spokes:{portal_id}:verdict:{event_key}", "string", "workers.delivery.lane_manager", "30 min",
             "whether an event with several handlers is an echo, as found before the first of them ran"),
    RedisKey("spokes:{portal_id}:budget", "hash", "spokes.crm.transport.rate_budget", "2 days",
             "limits that HubSpot reported, pauses with their reasons, and calls left today"),
    RedisKey("spokes:{portal_id}:budget:{kind}", "sorted set", "spokes.crm.transport.rate_budget", "one window",
             "slots of one kind of call, by the time at which each is free again"),
    RedisKey("spokes:{portal_id}:budget:{kind}:background", "sorted set", "spokes.crm.transport.rate_budget",
             "one window", "the slots of imports among them"),
    RedisKey("spokes:{portal_id}:budget:{kind}:queues", "sorted set", "spokes.crm.transport.rate_budget",
             "one window", "batch queues of all workers that were granted a slot within the last window, by the time"),
    RedisKey("spokes:{portal_id}:seen:{hour}:{number}", "set", "spokes.intake.admission", "DEDUPE_HOURS after the hour",
             "dedupe marks of events that occurred in one hour; `n` as number holds their count"),
    RedisKey("spokes:{portal_id}:redelivered:{redelivery_id}", "string", "spokes.intake.admission", "1 day",
             "how often a request came whose events were all known, or are none"),
    RedisKey("spokes:failures:{window}:{address_hash}", "string", "ingest.refusal_log", "2 min",
             "failed signatures of one address in one minute"),
    RedisKey("spokes:watch:volumes:{hour}", "hash", "workers.upkeep.anomaly_watch", "baseline and 2 days",
             "counts of one hour for anomaly alerts"),
    RedisKey("spokes:schedule:{name}", "string", "workers.upkeep.schedule", "none", "the period of a job's last run"),
    RedisKey("spokes:schedule:{name}:lock", "string", "workers.upkeep.schedule", "10 min at most",
             "the lease of the worker that runs a periodic job"),
    RedisKey(CONSOLE_USERS, "hash", "spokes.console.accounts.users", "none", "local accounts with password hashes"),
    RedisKey("spokes:console:session:{cookie_hash}", "string", "spokes.console.accounts.sessions", "1 h idle",
             "a session"),
    RedisKey("spokes:console:sessions:{user}", "set", "spokes.console.accounts.sessions", "12 h", "sessions of a user"),
    RedisKey("spokes:console:link:{token_hash}", "string", "spokes.console.accounts.users", "10 min",
             "the user of a login link"),
    RedisKey("spokes:console:revoked:{token_hash}", "string", "spokes.console.accounts.api_tokens", "3 h",
             "exists for a revoked API token"),
    RedisKey("spokes:console:limit:{limit}:{subject_hash}:{window}", "string", "spokes.console.accounts.rate_limits",
             "one window", "requests of one actor or address"),
)  # fmt: skip


def table() -> str:
    """Return `KEYS` as a Markdown table."""
    rows = (f"| `{key.pattern}` | {key.type} | `{key.owner}` | {key.expiry} | {key.holds} |" for key in KEYS)
    return "\n".join(("| key | type | owner | expiry | holds |", "| --- | --- | --- | --- | --- |", *rows))


if __name__ == "__main__":
    print(table())  # noqa: T201 - the script's purpose
