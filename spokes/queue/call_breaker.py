"""The circuit breaker: when calls of one kind are paused, and what a probe of them shows. Pure.

The breaker opens after several failures in a row. A probe, one event that is let through, closes it or lengthens the
pause.
"""

from typing import TYPE_CHECKING, Final

from spokes.core.errors import CRMError, CRMUnavailable
from spokes.crm.transport.call_kinds import call_kind
from spokes.crm.transport.paced_client import ApiRequest
from spokes.queue.held_deliveries import Calls

if TYPE_CHECKING:
    import random

_FAILURE_THRESHOLD: Final = 5  # failures in a row that open the breaker
_FAILURE_WINDOW_S: Final = 1.0  # one outage fails many events at once; failures within this time count as one
_FIRST_PROBE_S: Final = 10.0
_LONGEST_PROBE_S: Final = 300.0  # so that work continues within five minutes after the end of an outage
_GROWTH: Final = 2.0


def probe_delay_s(failed_probes: int, rng: "random.Random") -> float:
    """Return the seconds until the next probe, after this many failed ones; jittered."""
    longest_s = min(_LONGEST_PROBE_S, _FIRST_PROBE_S * _GROWTH ** min(failed_probes, 16))
    return rng.uniform(longest_s / 2, longest_s)


class CallBreaker:
    """Counts failures in a row, and notes how the calls of a probe end. One per process."""

    def __init__(self) -> None:
        self._failures: dict[Calls, tuple[int, float]] = {}  # the number of failures and the time of the last one
        self._probes: dict[Calls, bool | None] = {}  # whether HubSpot answers; None before the first call

    def record_failure(self, calls: Calls, now: float) -> bool:
        """Count a failed event; return whether the breaker opens, which resets the count."""
        count, last = self._failures.get(calls, (0, -_FAILURE_WINDOW_S))
        if now - last < _FAILURE_WINDOW_S:
            return False
        self._failures[calls] = (count + 1, now)
        if count + 1 < _FAILURE_THRESHOLD:
            return False
        del self._failures[calls]
        return True

    def call_ended(self, portal_id: int, request: ApiRequest, error: CRMError | None) -> None:
        """Note the end of a call: HubSpot's answer, also a refusal, ends a row of failures."""
        if not self._failures and not self._probes:  # nothing fails: no call costs anything
            return
        calls, is_answered = (
            Calls(portal_id, call_kind(request.method, request.path)),
            not isinstance(error, CRMUnavailable),
        )
        if is_answered:
            self._failures.pop(calls, None)
        if calls in self._probes:
            self._probes[calls] = is_answered and self._probes[calls] is not False

    def is_probing(self, calls: Calls) -> bool:
        """Return whether an event of this process probes the calls."""
        return calls in self._probes

    def begin_probe(self, calls: Calls) -> None:
        """Note from now on how such calls end."""
        self._probes[calls] = None

    def end_probe(self, calls: Calls) -> bool | None:
        """Return whether HubSpot answered all such calls since the probe began; None if none was made."""
        return self._probes.pop(calls, None)
