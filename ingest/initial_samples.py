"""Counters of the web process that exist from its start on, at 0: `rate` misses the first counts of a new one."""

from typing import Final

from spokes.core.errors import UNAVAILABLE_REASONS
from spokes.core.refusals import HTTP_STATUS, Refusal
from spokes.core.telemetry.metrics import EVENTS, REQUEST_SECONDS, REQUESTS, start_at_zero

_RESULTS: Final = ("admitted", "duplicate", "ignored", "quarantined")
_UNAUTHORIZED: Final = 401


def start_counters() -> None:
    """Create the samples of every known status, refusal reason and result of admission."""
    start_at_zero(REQUESTS, ("202",), ("",))
    start_at_zero(REQUESTS, ("503",), UNAVAILABLE_REASONS)
    for refusal in Refusal:
        start_at_zero(REQUESTS, (str(HTTP_STATUS.get(refusal, _UNAUTHORIZED)),), (refusal.value,))
    start_at_zero(EVENTS, _RESULTS)
    start_at_zero(REQUEST_SECONDS, ("202",))
