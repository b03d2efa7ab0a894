"""What the end of a handler's run means for its event. Rule: pure; one function, one table of cases.

When to try again. Rule: pure; the only place that decides about a repetition.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from spokes.audit.records import TERMINAL, Outcome
from spokes.core.errors import (
    DAILY_POLICY,
    CRMError,
    InvalidRequest,
    LeaseLost,
    NotAuthorized,
    NotPermitted,
    RateLimited,
    RetryLater,
    SpokesError,
    TransientCRMError,
)
from spokes.core.redis.outage import is_redis_outage

# Errors after which the same work may succeed. Everything else a handler raises is permanent: repeating a bug helps
# nobody, and a dead letter can be replayed once it is mended.
TRANSIENT_ERRORS = (TransientCRMError, RetryLater, TimeoutError, ConnectionError)


def next_delay_s(
    attempt: int, error: BaseException, *, schedule_s: Sequence[float], rng: random.Random
) -> float | None:
    """Return the seconds to wait before the next try, or None when there is to be none.

    Full jitter: any moment up to the schedule's figure, so that what failed together does not come back together.
    HubSpot's own wait wins where it is longer.

    Args:
        attempt: tries made so far, from 1.
        error: what the last one raised.
        schedule_s: the most to wait after each try; its length bounds the number of tries.
        rng: the source of chance.
    """
    if not isinstance(error, TRANSIENT_ERRORS) or attempt > len(schedule_s):
        return None
    wait = rng.uniform(0, schedule_s[attempt - 1])
    named = requested_delay_s(error)
    if named is None:
        return wait
    return max(wait, named + rng.uniform(0, min(1.0, named)))


def requested_delay_s(error: BaseException) -> float | None:
    """Return the wait that HubSpot or the handler named, in seconds, or None."""
    if isinstance(error, TransientCRMError):
        return error.retry_after_s
    return error.after_s if isinstance(error, RetryLater) else None


PAUSED_RETRY_S: Final = (
    5.0  # after this the queue looks whether the portal is still paused: see spokes/queue/portal_pauses.py
)
_OUTAGE_RETRY_S: Final = 1.0  # Redis was away while the handler needed it


@dataclass(frozen=True, slots=True)
class Resolution:
    """How an event stands after a run.

    `delay_s` is set exactly when the event is to be tried again; `spent` says whether this run counts as an attempt.
    `told` are the names that a refusal gave: what was wrong with the request, or which scopes are missing.
    """

    outcome: Outcome
    reason: str = ""
    delay_s: float | None = None
    counts_as_attempt: bool = True
    correlation_id: str = ""
    error_details: tuple[str, ...] = ()

    @property
    def advances_newest(self) -> bool:
        """Whether older changes of the same are superseded from now on.

        Our own write coming back is no news: it may rest on what we read before somebody changed it, and their change,
        older than our write, is the truth all the same.
        """
        return self.outcome is Outcome.PROCESSED or self.reason == "rewrite_loop"

    @property
    def is_final(self) -> bool:
        """Whether the event has ended."""
        return self.outcome in TERMINAL


PROCESSED: Final = Resolution(Outcome.PROCESSED)
SUPERSEDED: Final = Resolution(Outcome.SUPERSEDED, "newer_change_applied", counts_as_attempt=False)
ECHO: Final = Resolution(Outcome.ECHO, "own_write", counts_as_attempt=False)
COALESCED: Final = Resolution(Outcome.COALESCED, "newer_change_speaks_for_it", counts_as_attempt=False)
MERGED: Final = Resolution(Outcome.MERGED, "record_merged_away", counts_as_attempt=False)
REWRITE_LOOP: Final = Resolution(Outcome.ECHO, "rewrite_loop", counts_as_attempt=False)
NO_HANDLER: Final = Resolution(Outcome.DEAD, "no_handler")
CRASH_LOOP: Final = Resolution(Outcome.DEAD, "crash_loop")
WORKER_DIED: Final = Resolution(Outcome.PARKED, "worker_died", 0.0, counts_as_attempt=False)
LEASE_LOST: Final = Resolution(
    Outcome.PARKED, "lease_lost", 1.0, counts_as_attempt=False
)  # by then it is clear whose the object is
MERGED_AWAY: Final = Resolution(Outcome.PARKED, "record_merged_away", 0.0, counts_as_attempt=False)


def parked_for(reason: str, delay_s: float) -> Resolution:
    """Return the verdict for an event that could not be run now, through no fault of its own."""
    return Resolution(Outcome.PARKED, reason, delay_s, counts_as_attempt=False)


def resolution_for_error(
    attempt: int, error: BaseException, *, schedule_s: Sequence[float], rng: random.Random
) -> Resolution:
    """Return what `error` means for an event whose handler raised it.

    Args:
        attempt: tries made so far, this one included.
        error: what the handler raised.
        schedule_s: see backoff.next_delay_s.
        rng: see backoff.next_delay_s.
    """
    correlation_id = error.correlation_id if isinstance(error, CRMError) else ""
    reason = reason_for_error(error)
    if isinstance(error, NotAuthorized) or (isinstance(error, RateLimited) and error.policy == DAILY_POLICY):
        return Resolution(
            Outcome.PARKED, reason, PAUSED_RETRY_S, counts_as_attempt=False, correlation_id=correlation_id
        )
    if isinstance(error, LeaseLost):
        return LEASE_LOST
    if is_redis_outage(error):
        return Resolution(Outcome.PARKED, "redis_away", _OUTAGE_RETRY_S, counts_as_attempt=False)
    delay_s = next_delay_s(attempt, error, schedule_s=schedule_s, rng=rng)
    if delay_s is None:
        return Resolution(Outcome.DEAD, reason, correlation_id=correlation_id, error_details=_error_details(error))
    return Resolution(Outcome.RETRIED, reason, delay_s, correlation_id=correlation_id)


def _error_details(error: BaseException) -> tuple[str, ...]:
    """Return what a refusal names, for whoever is to mend its cause."""
    match error:
        case NotPermitted():
            return error.scopes
        case InvalidRequest(category=str(category)) if category:
            return (category,)
        case _:
            return ()


def reason_for_error(error: BaseException) -> str:
    """Return a constant for an exception: ours carry one, others are named by their class; texts may hold values."""
    if isinstance(error, SpokesError):
        return error.reason
    if isinstance(error, TimeoutError):
        return "handler_timeout"
    return f"handler_error:{type(error).__name__}"
