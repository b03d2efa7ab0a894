"""What the web process counts, for Prometheus. Rule: every label comes from a closed set."""

from typing import Final

from prometheus_client import Counter, Histogram

REQUESTS: Final = Counter("spokes_requests", "Requests by answer and reason", ["status", "reason"])
SECONDS: Final = Histogram(
    "spokes_request_seconds",
    "From the request's head to the answer",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
EVENTS: Final = Counter("spokes_events", "Events by their fate at the door", ["fate"])
