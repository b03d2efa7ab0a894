"""From a handler's error to the resolution of its event, and the delay before a retry. Pure.

The exception that leaves the handler decides, never its `__cause__` or `__context__`: `raise X from error` is X.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, cast

from spokes.audit.records import TERMINAL, Outcome
from spokes.core.errors import (
    CRMError,
    CRMUnavailable,
    LeaseLost,
    NoCredentials,
    NotAuthorized,
    ObjectNotFound,
    RetryLater,
    SpokesError,
    TransientCRMError,
)
from spokes.core.events import Event
from spokes.core.redis.errors import is_refused_by_redis
from spokes.core.telemetry.error_places import class_name, error_place
from spokes.http.errors import HttpRateReached, HttpUnavailable, TransientHttpError
from spokes.queue.pauses.pause_decisions import pause_for_error
from workers.lanes.handler_errors import is_transient
from workers.queue.retry_delays import is_server_failure, random_delay_s

if TYPE_CHECKING:
    import random

PAUSED_RETRY_S: Final = (
    5.0  # then the queue checks whether the portal is still paused; see spokes/queue/pauses/portal_pauses.py
)
_YOUNG_RECORD_S: Final = 60.0
_YOUNG_RECORD_RETRY_S: Final = (1.0, 2.0, 5.0, 10.0)  # between attempts to find a young record
_ENDING_KINDS: Final = frozenset({"deletion", "privacyDeletion"})
_OUTAGE_RETRY_S: Final = 1.0  # after a handler failed because Redis was unreachable
_INTERNAL_RETRY_S: Final = (0.5, 2.0)  # after errors of our own: a bug fails again, an accident does not
INTERNAL_ERROR: Final = "internal_error"
CALLS_PAUSED: Final = "calls_paused"
HANDLER_PAUSED: Final = "handler_paused"
HELD_S: Final = 3_600.0  # for which an event waits at most if nothing makes it due earlier
HANDLER_LIMITED: Final = "handler_limited"
# Failed handler runs that spend no attempt, because another run after the pause or outage succeeds. Beyond them the
# handler fails for a reason of its own.
_NOT_AUTHORIZED_FREE_RUNS: Final = 3  # each pause but the first lasts until HubSpot has accepted the token again
_LIMITED_FREE_RUNS: Final = 400  # a used-up daily limit and a move last a day; a pause lasts 5 minutes and more
_LEASE_LOST_FREE_RUNS: Final = 20
_OUTAGE_FREE_RUNS: Final = 60
_REFUSED_CALL_RETRY_S: Final = (5.0, 60.0, 300.0)  # after a 401 while HubSpot accepts the token
_MAX_GROUPED: Final = 10_000  # errors and groups that are read of one exception group
_MAX_REQUESTED_DELAY_S: Final = 30 * 86_400.0  # a longer wait is a mistake of the handler or of a header


@dataclass(frozen=True, slots=True)
class Resolution:
    """What one run means for its event.

    Attributes:
        delay_s: seconds until the event runs again; None if the outcome is final.
        counts_as_attempt: whether the run counts towards the attempts that the retry schedule allows.
        failure: the error's class and place, and what HubSpot said; see handler_errors.failure_fields.
        is_free_run: whether the handler ran and failed, and the run does not count as an attempt; see free_run_limit.
        waits_for_calls: the paused kind of call whose end makes the event due earlier; see call_pauses.py.
        waits_for_credentials: whether an install of the portal makes the event due earlier.
    """

    outcome: Outcome
    reason: str = ""
    delay_s: float | None = None
    counts_as_attempt: bool = True
    correlation_id: str = ""
    failure: Mapping[str, object] | None = None
    is_free_run: bool = False
    waits_for_calls: str = ""
    waits_for_credentials: bool = False

    @property
    def advances_newest(self) -> bool:
        """Whether the event supersedes older changes from now on.

        An echo does not: our write may be based on a value that we read before somebody changed it. That change,
        although older than our write, must still run.
        """
        return self.outcome is Outcome.PROCESSED or self.reason == "rewrite_loop"

    @property
    def blocks_object(self) -> bool:
        """Whether the object's later events wait too, whatever their handler: what parked the event holds for all."""
        # Other handlers may need no such call.
        is_for_handler = self.waits_for_calls or self.reason in {HANDLER_LIMITED, HttpRateReached.reason}
        return self.outcome is Outcome.PARKED and not is_for_handler

    @property
    def is_final(self) -> bool:
        """Whether the event does not run again."""
        return self.outcome in TERMINAL


PROCESSED: Final = Resolution(Outcome.PROCESSED)
SUPERSEDED: Final = Resolution(Outcome.SUPERSEDED, "newer_change_applied", counts_as_attempt=False)
ECHO: Final = Resolution(Outcome.ECHO, "own_write", counts_as_attempt=False)
COALESCED: Final = Resolution(Outcome.COALESCED, "newer_change_speaks_for_it", counts_as_attempt=False)
MERGED: Final = Resolution(Outcome.MERGED, "record_merged_away", counts_as_attempt=False)
REWRITE_LOOP: Final = Resolution(Outcome.ECHO, "rewrite_loop", counts_as_attempt=False)
ERASED: Final = Resolution(Outcome.DISCARDED, "erased", counts_as_attempt=False)
NO_HANDLER: Final = Resolution(Outcome.DEAD, "no_handler")
UNKNOWN_HANDLER: Final = Resolution(Outcome.DEAD, "handler_not_registered")  # removed or renamed while its event waited
CRASH_LOOP: Final = Resolution(Outcome.DEAD, "crash_loop")
HANDLER_STUCK: Final = Resolution(Outcome.DEAD, "handler_stuck")
WORKER_DIED: Final = Resolution(Outcome.PARKED, "worker_died", 0.0, counts_as_attempt=False)
# After one second it is clear which worker holds the lane.
LEASE_LOST: Final = Resolution(Outcome.PARKED, "lease_lost", 1.0, counts_as_attempt=False)
MERGED_AWAY: Final = Resolution(Outcome.PARKED, "record_merged_away", 0.0, counts_as_attempt=False)


HANDLER_OFF: Final = Resolution(Outcome.DISCARDED, "handler_off", counts_as_attempt=False)  # in this portal
UNINSTALLED: Final = Resolution(Outcome.DISCARDED, "uninstalled", counts_as_attempt=False)
NO_CREDENTIALS: Final = Resolution(Outcome.DEAD, NoCredentials.reason, counts_as_attempt=False)
NO_CREDENTIALS_PARK_S: Final = 86_400.0


def parked_for(reason: str, delay_s: float) -> Resolution:
    """Return the resolution of an event that cannot run now, without a failure of its own."""
    return Resolution(Outcome.PARKED, reason, delay_s, counts_as_attempt=False)


def behind(resolution: Resolution) -> Resolution:
    """Return the resolution of an event that waits behind a postponed one; it becomes due as early as that one."""
    return replace(
        parked_for("behind_another", resolution.delay_s or 0.0),
        waits_for_calls=resolution.waits_for_calls,
        waits_for_credentials=resolution.waits_for_credentials,
    )


def held_for(call_kind: str, reason: str = CALLS_PAUSED) -> Resolution:
    """Return the resolution of an event that needs calls of a paused kind; it becomes due when the pause ends."""
    return replace(parked_for(reason, HELD_S), waits_for_calls=call_kind)


def limited_for(delay_s: float) -> Resolution:
    """Return the resolution of an event whose handler may not start another run now; see workers/handlers/limits.py."""
    return parked_for(HANDLER_LIMITED, delay_s)


TOKEN_REFUSED: Final = parked_for(NotAuthorized.reason, 0.0)  # it is due at once, for workers with another token
NO_CREDENTIALS_PARKED: Final = replace(
    parked_for(NoCredentials.reason, NO_CREDENTIALS_PARK_S), waits_for_credentials=True
)


def leaf_errors(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors in an exception group, however deep, in their order; any other error is its own only leaf.

    A group is code of a handler too, and may contain itself: only its first errors and groups are read.
    """
    waiting = [error]
    for _ in range(_MAX_GROUPED):
        if not waiting:
            return
        current = waiting.pop()
        if issubclass(type(current), BaseExceptionGroup):  # isinstance may run code of the error's class
            waiting.extend(reversed(cast("BaseExceptionGroup[BaseException]", current).exceptions))
        else:
            yield current


def deciding_error(error: BaseException, retry_on: tuple[type[Exception], ...] = ()) -> BaseException:
    """Return the leaf of an exception group that decides what happens to the event; `retry_on` is the handler's.

    A rejected token pauses the portal whatever else failed, and a lost lease ends the run. After that, one permanent
    error makes the event a dead letter. If all errors are transient, the one with the longest requested wait decides.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    return min(leaf_errors(error), key=lambda leaf: _precedence(leaf, retry_on))


def _precedence(error: BaseException, retry_on: tuple[type[Exception], ...]) -> tuple[int, float]:
    """Return the order in which the leaves of an exception group decide, the first one first."""
    if isinstance(error, NotAuthorized):
        return 0, 0.0
    if isinstance(error, LeaseLost):
        return 1, 0.0
    if not is_transient(error, retry_on) and not is_refused_by_redis(error):
        return 2, 0.0
    if _waits_for_pause(error):
        return 3, 0.0
    return 4, -(requested_delay_s(error) or 0.0)


def _waits_for_pause(error: BaseException) -> bool:
    """Return whether the event waits for the end of a pause without an attempt; failed calls spend one, as probes."""
    return not isinstance(error, CRMUnavailable | HttpUnavailable) and pause_for_error(error) is not None


def free_run_limit(error: BaseException) -> int:
    """Return how many runs of an event may fail by such an error without spending an attempt."""
    if isinstance(error, NotAuthorized):
        return _NOT_AUTHORIZED_FREE_RUNS
    if _waits_for_pause(error) or isinstance(error, HttpRateReached):
        return _LIMITED_FREE_RUNS
    if isinstance(error, LeaseLost):
        return _LEASE_LOST_FREE_RUNS
    return _OUTAGE_FREE_RUNS if is_refused_by_redis(error) else 0


def retried_after_refusal(resolution: Resolution, free_runs: int) -> Resolution:
    """Return the resolution of an event whose call HubSpot refused with 401 although it accepts the token.

    No pause helps: the refusal concerns this call alone, or it ends soon, because HubSpot's servers learn of a new
    token at different times. The event is retried a few times, and other events run.
    """
    if resolution.is_final:
        return resolution
    delay_s = _REFUSED_CALL_RETRY_S[min(free_runs, len(_REFUSED_CALL_RETRY_S) - 1)]
    return replace(resolution, outcome=Outcome.RETRIED, delay_s=delay_s)


def record_age_s(event: Event, now_ms: int) -> float:
    """Return how long ago an event's record was changed, in seconds; infinite for a record that is gone."""
    if event.kind in _ENDING_KINDS or event.occurred_at <= 0:
        return math.inf
    return float(now_ms - event.occurred_at) / 1000


def resolution_for_error(
    attempt: int,
    error: BaseException,
    *,
    free_runs: int = 0,
    has_credentials: bool = False,
    age_s: float = math.inf,
    schedule_s: Sequence[float],
    further_s: Sequence[float] = (),
    rng: "random.Random",
    retry_on: tuple[type[Exception], ...] = (),
    failure: Mapping[str, object] | None = None,
) -> Resolution:
    """Return the resolution of an event whose handler raised `error`.

    Args:
        attempt: number of attempts, this one included.
        error: what the handler raised; of an exception group, see deciding_error.
        free_runs: number of earlier runs that spent no attempt.
        has_credentials: whether this process has the portal's credentials. NoCredentials is then the handler's own
            error: no install could end a wait for them.
        age_s: see record_age_s. HubSpot's API may not find a new record yet although its event is here.
        schedule_s: see next_delay_s.
        further_s: see next_delay_s.
        rng: see next_delay_s.
        retry_on: see next_delay_s.
        failure: see handler_errors.failure_fields.
    """
    error = deciding_error(error, retry_on)
    if isinstance(error, NoCredentials) and not has_credentials:  # the portal removed the app during the run
        return NO_CREDENTIALS_PARKED
    correlation_id = error.correlation_id if isinstance(error, CRMError) else ""
    reason = reason_for_error(error)
    if free_runs < free_run_limit(error):
        parked = _parked_after_free_run(error)
        return replace(parked, correlation_id=correlation_id, failure=failure, is_free_run=True)
    is_young = isinstance(error, ObjectNotFound) and age_s < _YOUNG_RECORD_S
    if is_young and attempt <= min(len(_YOUNG_RECORD_RETRY_S), len(schedule_s)):
        delay_s: float | None = _YOUNG_RECORD_RETRY_S[attempt - 1]
        return Resolution(Outcome.RETRIED, reason, delay_s, correlation_id=correlation_id, failure=failure)
    delay_s = next_delay_s(attempt, error, schedule_s=schedule_s, further_s=further_s, rng=rng, retry_on=retry_on)
    outcome = Outcome.DEAD if delay_s is None else Outcome.RETRIED
    return Resolution(outcome, reason, delay_s, correlation_id=correlation_id, failure=failure)


def _parked_after_free_run(error: BaseException) -> Resolution:
    if isinstance(error, LeaseLost):
        return LEASE_LOST
    if isinstance(error, HttpRateReached):
        return parked_for(error.reason, error.retry_after_s)
    if _waits_for_pause(error):
        return parked_for(reason_for_error(error), PAUSED_RETRY_S)
    return parked_for("redis_away", _OUTAGE_RETRY_S)


def resolution_for_internal_error(attempt: int, error: BaseException) -> Resolution:
    """Return the resolution of an event for which code of ours raised `error`, not the handler."""
    if is_refused_by_redis(error):
        return Resolution(Outcome.PARKED, "redis_away", _OUTAGE_RETRY_S, counts_as_attempt=False)
    failure = {"error": class_name(error), "error_at": error_place(error)}
    if attempt <= len(_INTERNAL_RETRY_S):
        return Resolution(Outcome.RETRIED, INTERNAL_ERROR, _INTERNAL_RETRY_S[attempt - 1], failure=failure)
    return Resolution(Outcome.DEAD, INTERNAL_ERROR, failure=failure)


def reason_for_error(error: BaseException) -> str:
    """Return a constant: the `reason` of our exceptions, the class of others. Messages may hold values."""
    if isinstance(error, SpokesError):
        return error.reason
    if isinstance(error, TimeoutError):
        return "handler_timeout"
    return f"handler_error:{class_name(error)}"


def next_delay_s(
    attempt: int,
    error: BaseException,
    *,
    schedule_s: Sequence[float],
    further_s: Sequence[float] = (),
    rng: "random.Random",
    retry_on: tuple[type[Exception], ...] = (),
) -> float | None:
    """Return the seconds until the next attempt, or None if there is none.

    A wait that HubSpot or the handler requests wins over the random delay if it is longer.

    Args:
        attempt: number of attempts made, from 1.
        error: what the latest attempt raised.
        schedule_s: longest delay after each attempt; its length limits the number of retries.
        further_s: those that follow if HubSpot failed; see further_delays_s.
        rng: source of the jitter.
        retry_on: classes of exceptions that the handler declared as transient.
    """
    if not (is_transient(error, retry_on) or free_run_limit(error) > 0):
        return None
    delay_s = random_delay_s(attempt, schedule_s, further_s if is_server_failure(error) else (), rng)
    requested_s = requested_delay_s(error)
    if delay_s is None or requested_s is None:
        return delay_s
    return max(delay_s, requested_s + rng.uniform(0, min(1.0, requested_s)))


def requested_delay_s(error: BaseException) -> float | None:
    """Return the wait that HubSpot or the handler requested, in seconds, or None if it is no usable number."""
    match error:
        case TransientCRMError(retry_after_s=int() | float() as seconds):
            pass
        case RetryLater(after_s=int() | float() as seconds):
            pass
        case TransientHttpError(retry_after_s=int() | float() as seconds):
            pass
        case _:
            return None
    return None if math.isnan(seconds := min(seconds, _MAX_REQUESTED_DELAY_S)) else max(0.0, float(seconds))
