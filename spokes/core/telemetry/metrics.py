"""What is counted and measured, for Prometheus: every metric by name. Rule: every label comes from a closed set.

A process counts for itself; `metric_totals` adds the counts of all together. Gauges stand here for names and their
help: what they say is measured when it is asked for.
"""

from bisect import bisect_left
from collections.abc import Collection
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call]  # counts outlive the process that would say when it began

METRICS: Final = CollectorRegistry()
_RESPONSE_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_CALL_BUCKETS_S: Final = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_LAG_BUCKETS_S: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400)


class Durations(Histogram):
    """A histogram that takes many values at once; one by one they cost a busy worker several percent."""

    def observe_all(self, seconds: Collection[float]) -> None:
        """Observe each of these."""
        counts: dict[int, int] = {}
        for value in seconds:
            place = bisect_left(self._upper_bounds, value)
            counts[place] = counts.get(place, 0) + 1
        for place, count in counts.items():
            self._buckets[place].inc(count)
        self._sum.inc(sum(seconds))


def _counter(name: str, help_text: str, *labels: str) -> Counter:
    return Counter(f"spokes_{name}", help_text, labels, registry=METRICS)


def _gauge(name: str, help_text: str, *labels: str) -> Gauge:
    return Gauge(f"spokes_{name}", help_text, labels, registry=METRICS)


def _durations(name: str, help_text: str, buckets: tuple[float, ...], *labels: str) -> Durations:
    return Durations(f"spokes_{name}", help_text, labels, buckets=buckets, registry=METRICS)


# The door
REQUESTS: Final = _counter("requests", "Requests by answer and reason", "status", "reason")
REQUEST_SECONDS: Final = _durations(
    "request_seconds", "From a request's head to its answer; of 202, admission", _RESPONSE_BUCKETS_S, "status"
)
EVENTS: Final = _counter("events", "Events by their fate at the door", "fate")

# The work
OUTCOMES: Final = _counter("outcomes", "Runs of events by handler and outcome", "handler", "outcome")
UNSUCCESSFUL_RUNS: Final = _counter("setbacks", "Events retried, parked or dead, by reason", "outcome", "reason")
HANDLER_SECONDS: Final = _durations(
    "handler_seconds", "One run of a handler, with its waits for the CRM budget", _CALL_BUCKETS_S, "handler"
)
LAG_SECONDS: Final = _durations("lag_seconds", "From an event's occurredAt to its end", _LAG_BUCKETS_S)

# HubSpot
CRM_CALLS: Final = _counter("crm_calls", "Calls of HubSpot's CRM", "method", "outcome")
CRM_CALL_SECONDS: Final = _durations("crm_call_seconds", "One call of HubSpot's CRM", _CALL_BUCKETS_S, "method")
BUDGET_WAIT_SECONDS: Final = _durations("budget_wait_seconds", "From asking for a place in the budget to having it",
                                        _CALL_BUCKETS_S, "kind")  # fmt: skip
BATCHES: Final = _counter("batches", "Calls that a batch was sent in", "lane")
BATCH_INPUTS: Final = _counter("batch_inputs", "Objects that batches were about", "lane")
BATCH_CALLERS: Final = _counter("batch_asks", "Callers that batches answered; by batches, the coalescing ratio", "lane")
BUDGET_LIMIT: Final = _gauge("budget_limit", "Calls that HubSpot allows in a window, of the fullest portal", "kind")
BUDGET_USED: Final = _gauge("budget_used", "Places that are taken in the window, of the fullest portal", "kind")
BUDGET_PAUSE_SECONDS: Final = _gauge("budget_pause_seconds", "How long calls are still held up, longest", "kind")
BUDGET_DAY_LEFT: Final = _gauge("budget_day_left", "Calls left of the day, of the portal with the fewest")
PORTALS_PAUSED: Final = _gauge("portals_paused", "Portals whose work waits, by what paused them", "why")

SECURITY_EVENTS: Final = _counter("security_events", "Security events by name", "event")

# What waits, and what stands
QUEUE_DELIVERIES: Final = _gauge("queue_deliveries", "Deliveries in the queue: due, or to be tried later", "state")
QUEUE_OLDEST_DUE_SECONDS: Final = _gauge("queue_late_seconds", "How long the oldest due delivery has been due")
DEAD_LETTERS: Final = _gauge("dead_letters", "Dead letters that wait for an operator")
ARCHIVED: Final = _counter("archived", "Audit records that reached the store")
ARCHIVE_WAITING: Final = _gauge("archive_waiting", "Audit records that wait in Redis for the store")
ARCHIVE_LAG_SECONDS: Final = _gauge("archive_lag_seconds", "How long the oldest of them has waited")
ALERT_ACTIVE: Final = _gauge("alert_standing", "Alerts that stand", "alert")
PROCESSES: Final = _gauge("processes", "Processes that live", "process")
REDIS_UP: Final = _gauge("redis_up", "Whether Redis answered this page")
REDIS_SECONDS: Final = _gauge("redis_seconds", "How long Redis took to answer this page")
