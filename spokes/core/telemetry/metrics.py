"""Every Prometheus metric by name. Label values come from closed sets.

A process counts for itself; `metric_totals` adds up the counts of all processes. Gauges are not
set here: a worker or the metrics page measures their samples, by `sample_key`.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable
from itertools import product
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call]  # counts outlive their process, so its start time means nothing

METRICS: Final = CollectorRegistry()
_RESPONSE_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_CALL_BUCKETS_S: Final = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_LAG_BUCKETS_S: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400)


class Durations(Histogram):
    """A histogram that observes many values at once; one by one they cost a busy worker several percent of its time."""

    def observe_all(self, seconds: Collection[float]) -> None:
        """Observe every value of `seconds`."""
        counts: dict[int, int] = {}
        for value in seconds:
            index = bisect_left(self._upper_bounds, value)
            counts[index] = counts.get(index, 0) + 1
        for index, count in counts.items():
            self._buckets[index].inc(count)
        self._sum.inc(sum(seconds))


class Definition(NamedTuple):
    """What a metric was created with; prometheus_client has no public way to ask for it."""

    name: str
    help_text: str
    kind: str  # Prometheus' type
    labels: frozenset[str]


DEFINITIONS: Final[dict[Counter | Gauge | Histogram, Definition]] = {}


def _counter(name: str, help_text: str, *labels: str) -> Counter:
    counter = Counter(f"spokes_{name}", help_text, labels, registry=METRICS)
    DEFINITIONS[counter] = Definition(f"spokes_{name}", help_text, "counter", frozenset(labels))
    return counter


def _gauge(name: str, help_text: str, *labels: str) -> Gauge:
    gauge = Gauge(f"spokes_{name}", help_text, labels, registry=METRICS)
    DEFINITIONS[gauge] = Definition(f"spokes_{name}", help_text, "gauge", frozenset(labels))
    return gauge


def _durations(name: str, help_text: str, buckets: tuple[float, ...], *labels: str) -> Durations:
    durations = Durations(f"spokes_{name}", help_text, labels, buckets=buckets, registry=METRICS)
    DEFINITIONS[durations] = Definition(f"spokes_{name}", help_text, "histogram", frozenset(labels))
    return durations


def start_at_zero(metric: Counter | Histogram, *label_values: Iterable[str]) -> None:
    """Create the samples of all combinations of these label values, one iterable for each label, in their order."""
    for values in product(*label_values):
        metric.labels(*values)


# Web process
REQUESTS: Final = _counter("requests", "Requests by HTTP status and refusal reason", "status", "reason")
REQUEST_SECONDS: Final = _durations(
    "request_seconds",
    "From a request's head to its response; for 202 this includes admission",
    _RESPONSE_BUCKETS_S,
    "status",
)
EVENTS: Final = _counter("events", "Received events by the result of admission", "result")
JOURNAL_PAGES: Final = _counter("journal_pages", "Pages of HubSpot's journal whose events are all admitted")
JOURNAL_EVENTS: Final = _counter("journal_events", "Events of HubSpot's journal by the result of admission", "result")
UNPROVEN_PAIRS: Final = _counter(
    "unproven_pairs", "Journal events within a second of another change of the same property: perhaps one change twice"
)
CONSOLE_REQUESTS: Final = _counter(
    "console_requests", "Requests to the console by HTTP status and refusal reason", "status", "reason"
)

# Workers
OUTCOMES: Final = _counter("outcomes", "Event outcomes by handler", "handler", "outcome")
UNSUCCESSFUL_RUNS: Final = _counter(
    "unsuccessful_runs", "Events retried, parked or dead, by reason", "outcome", "reason"
)
HANDLER_SECONDS: Final = _durations(
    "handler_seconds", "One run of a handler, including its waits for the rate budget", _CALL_BUCKETS_S, "handler"
)
RECONCILED_EVENTS: Final = _counter(
    "reconciled_events", "Events that HubSpot's records show, by whether they had arrived", "result"
)
LAG_SECONDS: Final = _durations("lag_seconds", "From an event's occurredAt to its final outcome", _LAG_BUCKETS_S)

# HubSpot
CRM_CALLS: Final = _counter("crm_calls", "Calls to HubSpot's CRM API", "method", "outcome")
CRM_CALL_SECONDS: Final = _durations("crm_call_seconds", "One call to HubSpot's CRM API", _CALL_BUCKETS_S, "method")
BUDGET_WAIT_SECONDS: Final = _durations("budget_wait_seconds", "Wait for a slot of the rate budget",
                                        _CALL_BUCKETS_S, "kind")  # fmt: skip
BATCHES: Final = _counter("batches", "Batch calls sent to HubSpot", "operation")
BATCH_INPUTS: Final = _counter("batch_inputs", "Inputs of batch calls", "operation")
BATCH_CALLERS: Final = _counter(
    "batch_callers", "Submissions answered by batch calls; divided by batches, the coalescing ratio", "operation"
)
BUDGET_LIMIT: Final = _gauge("budget_limit", "Calls allowed per window, of the portal with the highest usage", "kind")
BUDGET_USED: Final = _gauge(
    "budget_used", "Slots used in the current window, of the portal with the highest usage", "kind"
)
BUDGET_PAUSE_SECONDS: Final = _gauge("budget_pause_seconds", "Remaining seconds of the longest backoff", "kind")
BUDGET_DAY_LEFT: Final = _gauge("budget_day_left", "Calls left today, of the portal with the fewest")
PORTAL_CALLS_USED: Final = _gauge(
    "portal_calls_used", "Slots used in the current window, of the ten portals with the most", "portal"
)
PORTALS_PAUSED: Final = _gauge("portals_paused", "Paused portals, by reason", "reason")
CALLS_PAUSED: Final = _gauge("calls_paused", "Portals with a paused kind of calls, by kind", "calls")
HELD_DELIVERIES: Final = _gauge(
    "held_deliveries", "Deliveries that wait for the end of a pause, by kind of calls, or all", "calls"
)

# Own systems
HTTP_CALLS: Final = _counter("http_calls", "Calls of tools.http, by declared host", "host", "outcome")
HTTP_CALL_SECONDS: Final = _durations("http_call_seconds", "One call of tools.http", _CALL_BUCKETS_S, "host")

SECURITY_EVENTS: Final = _counter("security_events", "Security events by name", "event")

# Backlogs and state
QUEUE_DELIVERIES: Final = _gauge("queue_deliveries", "Deliveries in the queue: due, or scheduled for later", "state")
QUEUE_OLDEST_DUE_SECONDS: Final = _gauge("queue_oldest_due_seconds", "How long the oldest due delivery has been due")
DELIVERIES_OVERDUE: Final = _gauge("deliveries_overdue", "Deliveries in progress for longer than handlers explain")
GAPS_OPEN: Final = _gauge("gaps_open", "Intervals in which events may have been missed, without a proof yet")
DEAD_LETTERS: Final = _gauge("dead_letters", "Dead letters waiting for an operator")
ARCHIVED: Final = _counter("archived", "Audit records written to the audit store")
ARCHIVE_WAITING: Final = _gauge("archive_waiting", "Audit records waiting in Redis for the audit store")
ARCHIVE_LAG_SECONDS: Final = _gauge("archive_lag_seconds", "How long the oldest waiting audit record has waited")
JOURNAL_AGE_SECONDS: Final = _gauge(
    "journal_age_seconds", "How far the reader of HubSpot's journal is behind; the journal keeps three days"
)
ALERT_ACTIVE: Final = _gauge("alert_active", "Active alerts", "alert")
PROCESSES: Final = _gauge("processes", "Live processes", "process")
REDIS_UP: Final = _gauge("redis_up", "Whether Redis answered this page")
REDIS_SECONDS: Final = _gauge("redis_seconds", "How long Redis took to answer this page")
