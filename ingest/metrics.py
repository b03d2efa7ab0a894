"""What the web process counts, for Prometheus. Rule: every label comes from a closed set.

With WEB_CONCURRENCY above 1, each process counts for itself in PROMETHEUS_MULTIPROC_DIR, and the page adds them up.
"""

import os
from collections.abc import Iterable
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

REQUESTS: Final = Counter("spokes_requests", "Requests by answer and reason", ["status", "reason"])
SECONDS: Final = Histogram(
    "spokes_request_seconds",
    "From the request's head to the answer",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
ALERTS_STANDING: Final = Gauge("spokes_alert_standing", "Alerts that stand", ["alert"], multiprocess_mode="mostrecent")
EVENTS: Final = Counter("spokes_events", "Events by their fate at the door", ["fate"])


def page(alerts: Iterable[str]) -> tuple[bytes, str]:
    """Return the page for all web processes, and its content type.

    Args:
        alerts: names of those that stand.
    """
    ALERTS_STANDING.clear()
    for name in alerts:
        ALERTS_STANDING.labels(name).set(1)
    registry: CollectorRegistry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # untyped in the library
    return generate_latest(registry), CONTENT_TYPE_LATEST
