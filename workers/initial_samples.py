"""Counters of a worker that exist from its start on, at 0: `rate` misses the first counts of a new one."""

from collections.abc import Iterator
from typing import Final

from spokes.audit.records import TERMINAL, Outcome
from spokes.core.errors import CRMError, RetryLater, SpokesError
from spokes.core.telemetry.metrics import CRM_CALLS, HTTP_CALLS, OUTCOMES, UNSUCCESSFUL_RUNS, start_at_zero
from spokes.http.errors import HttpError, HttpUnavailable
from spokes.routing import Router
from workers.lanes import resolution

_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_OUTCOMES: Final = (*sorted(TERMINAL), Outcome.RETRIED, Outcome.PARKED)
_OTHER_REASONS: Final = frozenset({"handler_error", "handler_timeout", resolution.INTERNAL_ERROR, RetryLater.reason})


def start_counters(router: Router) -> None:
    """Create the samples of every handler and outcome, every reason for a dead letter, and every kind of call."""
    start_at_zero(OUTCOMES, {route.name for _, route in router}, _OUTCOMES)
    start_at_zero(UNSUCCESSFUL_RUNS, (Outcome.DEAD,), dead_reasons())
    start_at_zero(HTTP_CALLS, router.hosts, ("2xx", "3xx", "4xx", "5xx", HttpUnavailable.reason))
    start_at_zero(CRM_CALLS, _METHODS, {"answered", *(error.reason for error in _subclasses(CRMError))})


def dead_reasons() -> frozenset[str]:
    """Return the reasons for which events become dead letters, as the metric names them."""
    resolutions = [each for each in vars(resolution).values() if isinstance(each, resolution.Resolution)]
    fixed = {each.reason for each in resolutions if each.outcome is Outcome.DEAD}
    errors = {error.reason for base in (CRMError, HttpError) for error in _subclasses(base)}
    return frozenset(fixed | errors | _OTHER_REASONS)


def _subclasses(error: type[SpokesError]) -> Iterator[type[SpokesError]]:
    for subclass in error.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
