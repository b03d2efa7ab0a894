"""What the ends of events add to the metrics. Rule: gathered for each event, counted for many together."""

import time
from collections import defaultdict
from typing import Final

from prometheus_client import Counter as Metric

from spokes.audit.records import Outcome
from spokes.core.telemetry.metrics import HANDLER_SECONDS, LAG_SECONDS, OUTCOMES, SETBACKS
from spokes.core.telemetry.sentry import timed
from workers.delivery.resolution import Verdict

_SETBACKS: Final = frozenset({Outcome.RETRIED, Outcome.PARKED, Outcome.DEAD})
_OUTCOMES: Final[dict[tuple[str, Outcome], Metric]] = {}  # looking a metric up by its labels costs more than counting


class Tally:
    """Outcomes, setbacks, lags, and how long handlers ran."""

    __slots__ = ("_lags", "_outcomes", "_seconds", "_setbacks")

    def __init__(self) -> None:
        self._outcomes: defaultdict[tuple[str, Outcome], int] = defaultdict(int)
        self._setbacks: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._lags: list[float] = []
        self._seconds: defaultdict[str, list[float]] = defaultdict(list)

    def ran(self, handler: str, seconds: float) -> None:
        """Take note of one run of a handler."""
        self._seconds[handler].append(seconds)

    def ended(self, handler: str, verdict: Verdict, occurred_at: int) -> None:
        """Take note of how an event stands now; `occurred_at` is epoch ms."""
        outcome = verdict.outcome
        self._outcomes[handler, outcome] += 1
        if outcome in _SETBACKS:
            # Of an exception that is not ours the class is named, and there is no end of classes.
            self._setbacks[outcome.value, verdict.reason.partition(":")[0]] += 1
        if verdict.delay_s is None:
            self._lags.append(max(0.0, time.time() - occurred_at / 1000))

    def tell(self) -> None:
        """Count all of it, and begin anew."""
        for key, count in self._outcomes.items():
            metric = _OUTCOMES.get(key)
            if metric is None:
                metric = _OUTCOMES[key] = OUTCOMES.labels(key[0], key[1].value)
            metric.inc(count)
        for labels, count in self._setbacks.items():
            SETBACKS.labels(*labels).inc(count)
        for handler, seconds in self._seconds.items():
            HANDLER_SECONDS.labels(handler).observe_all(seconds)
            for one in seconds:
                timed("handler", handler, one)
        LAG_SECONDS.observe_all(self._lags)
        for told in (self._outcomes, self._setbacks, self._seconds, self._lags):
            told.clear()
