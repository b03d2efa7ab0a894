"""The circuit breaker: when calls of one kind are paused, and what a probe of them shows. Pure.

The breaker opens after several failures in a row. A probe, one event that is let through, closes it or lengthens the
pause.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from spokes.core.errors import CRMError, CRMUnavailable, SpokesError
from spokes.crm.transport.call_kinds import call_kind
from spokes.crm.transport.paced_client import ApiRequest
from spokes.http.errors import HttpUnavailable
from spokes.queue.held_deliveries import Calls

if TYPE_CHECKING:
    import random

_FAILURE_THRESHOLD: Final = 5  # failures in a row that open the breaker
_SUBJECT_THRESHOLD: Final = 2  # different objects among them: the calls of one that HubSpot always fails are no outage
_FAILURE_WINDOW_S: Final = 1.0  # one outage fails many events at once; failures within this time count as one
_FIRST_PROBE_S: Final = 10.0
_LONGEST_PROBE_S: Final = 300.0  # so that work continues within five minutes after the end of an outage
_GROWTH: Final = 2.0
_FAILURES: Final = (CRMUnavailable, HttpUnavailable)
_LONGEST_NAMED_S: Final = 86_400.0  # of a Retry-After


def probe_delay_s(failed_probes: int, rng: "random.Random") -> float:
    """Return the seconds until the next probe, after this many failed ones; jittered."""
    longest_s = min(_LONGEST_PROBE_S, _FIRST_PROBE_S * _GROWTH ** min(failed_probes, 16))
    return rng.uniform(longest_s / 2, longest_s)


@dataclass(slots=True)
class ProbeResult:
    """How the calls of a probe ended: whether HubSpot answered all, None before the first; the longest Retry-After."""

    is_answered: bool | None = None
    retry_after_s: float = 0.0

    def add(self, error: SpokesError | None) -> None:
        """Note the end of a call."""
        self.is_answered = not isinstance(error, _FAILURES) and self.is_answered is not False
        if isinstance(error, _FAILURES):
            self.retry_after_s = max(self.retry_after_s, min(error.retry_after_s or 0.0, _LONGEST_NAMED_S))


class CallBreaker:
    """Counts failures in a row, and notes how the calls of a probe end. One per process."""

    def __init__(self) -> None:
        # The number of failures, the time of the last one, and the objects of the first ones.
        self._failures: dict[Calls, tuple[int, float, frozenset[str]]] = {}
        self._probes: dict[Calls, ProbeResult] = {}

    def record_failure(self, calls: Calls, now: float, subject: str) -> bool:
        """Count a failed event of an object; return whether the breaker opens, which resets the count."""
        count, last, subjects = self._failures.get(calls, (0, -_FAILURE_WINDOW_S, frozenset()))
        if len(subjects) < _SUBJECT_THRESHOLD:
            subjects |= {subject}
        if now - last < _FAILURE_WINDOW_S:
            self._failures[calls] = (count, last, subjects)
            return False
        self._failures[calls] = (count + 1, now, subjects)
        if count + 1 < _FAILURE_THRESHOLD or len(subjects) < _SUBJECT_THRESHOLD:
            return False
        del self._failures[calls]
        return True

    def call_ended(self, portal_id: int, request: ApiRequest, error: CRMError | None) -> None:
        """Note the end of a call: HubSpot's answer, also a refusal, ends a row of failures."""
        if self._failures or self._probes:  # otherwise nothing fails, and no call costs anything
            calls = Calls(portal_id, call_kind(request.method, request.path))
            self.kind_ended(calls, error)

    def kind_ended(self, calls: Calls, error: SpokesError | None) -> None:
        """Note the end of a call by its kind."""
        if not isinstance(error, _FAILURES):
            self._failures.pop(calls, None)
        if probe := self._probes.get(calls):
            probe.add(error)

    def is_probing(self, calls: Calls) -> bool:
        """Return whether an event of this process probes the calls."""
        return calls in self._probes

    def begin_probe(self, calls: Calls) -> None:
        """Note from now on how such calls end."""
        self._probes[calls] = ProbeResult()

    def end_probe(self, calls: Calls) -> ProbeResult:
        """Return how such calls ended since the probe began."""
        return self._probes.pop(calls, None) or ProbeResult()
