"""workers.lanes.resolution: what a handler's error means for its event, and when the event is retried."""

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import AuthenticationError, NoPermissionError
from redis.exceptions import ConnectionError as RedisConnectionError

from spokes.audit.records import TERMINAL, Outcome
from spokes.core.errors import (
    DAILY_POLICY,
    Conflict,
    CRMUnavailable,
    InvalidRequest,
    LeaseLost,
    NotAuthorized,
    NotPermitted,
    ObjectLocked,
    ObjectNotFound,
    PortalMoving,
    RateLimited,
    RetryLater,
)
from spokes.core.events import Event
from tests.support.events import event
from workers.lanes.resolution import (
    PAUSED_RETRY_S,
    Resolution,
    free_run_limit,
    leaf_errors,
    next_delay_s,
    parked_for,
    record_age_s,
    requested_delay_s,
    resolution_for_error,
)

SCHEDULE = (2.0, 10.0, 60.0)
TRANSIENT = [
    CRMUnavailable(),
    RateLimited(),
    ObjectLocked(),
    PortalMoving(),
    TimeoutError(),
    ConnectionError(),
    RetryLater(),
]
PERMANENT = [InvalidRequest(), NotPermitted(), ObjectNotFound(), Conflict(), ValueError("a bug")]


def delay(attempt: int, error: BaseException, seed: int = 1) -> float | None:
    return next_delay_s(attempt, error, schedule_s=SCHEDULE, rng=random.Random(seed))


def resolve(error: BaseException, attempt: int = 1, *, free_runs: int = 0) -> Resolution:
    return resolution_for_error(attempt, error, free_runs=free_runs, schedule_s=SCHEDULE, rng=random.Random(1))


def resolve_young(attempt: int, age_s: float) -> Resolution:
    rng = random.Random(1)
    return resolution_for_error(attempt, ObjectNotFound(), age_s=age_s, schedule_s=(1.0,) * 9, rng=rng)


def test_young_record_is_looked_for_some_seconds_before_it_counts_as_missing() -> None:
    resolutions = [resolve_young(attempt, 5) for attempt in range(1, 6)]
    assert [resolution.delay_s for resolution in resolutions] == [1.0, 2.0, 5.0, 10.0, None]
    assert resolutions[-1].outcome is Outcome.DEAD


@pytest.mark.parametrize(("age_s", "outcome"), [(-3, Outcome.RETRIED), (59, Outcome.RETRIED), (61, Outcome.DEAD)])
def test_record_is_young_for_a_minute(age_s: float, outcome: Outcome) -> None:
    assert resolve_young(1, age_s).outcome is outcome


@pytest.mark.parametrize(
    ("fields", "age_s"),
    [
        ({"occurredAt": 1_000}, 9.0),
        ({"occurredAt": 0}, math.inf),
        ({"occurredAt": 1_000, "subscriptionType": "contact.deletion"}, math.inf),
        ({"occurredAt": 1_000, "subscriptionType": "contact.privacyDeletion"}, math.inf),
    ],
)
def test_age_of_a_record_is_that_of_its_event(fields: dict[str, object], age_s: float) -> None:
    assert record_age_s(Event(event(**fields)), 10_000) == age_s


@pytest.mark.parametrize("error", TRANSIENT, ids=lambda e: type(e).__name__)
def test_transient_error_is_retried(error: BaseException) -> None:
    assert delay(1, error) is not None


@pytest.mark.parametrize("error", PERMANENT, ids=lambda e: type(e).__name__)
def test_permanent_error_is_not_retried(error: BaseException) -> None:
    assert delay(1, error) is None


@pytest.mark.parametrize(
    "errors",
    [
        [CRMUnavailable()],
        [RateLimited(), TimeoutError()],
        [CRMUnavailable(), ExceptionGroup("", [RetryLater(), ObjectLocked()])],
    ],
)
def test_group_of_transient_errors_is_retried(errors: list[Exception]) -> None:
    assert resolve(ExceptionGroup("", errors)).outcome is Outcome.RETRIED


@given(st.permutations([1.0, 60.0, 20.0]))
def test_longest_requested_wait_of_a_group_wins(waits: list[float]) -> None:
    group = ExceptionGroup("", [RateLimited(retry_after_s=wait) for wait in waits])
    delay_s = resolve(group).delay_s
    assert delay_s is not None
    assert delay_s >= 60


@pytest.mark.parametrize("wait_s", [61, 3_600, 86_400])
def test_long_wait_of_all_calls_spends_no_attempt(wait_s: float) -> None:
    resolution = resolve(RateLimited(policy="TEN_SECONDLY_ROLLING", retry_after_s=wait_s))
    assert (resolution.outcome, resolution.delay_s, resolution.is_free_run) == (Outcome.PARKED, 5.0, True)


@pytest.mark.parametrize("bug", [ValueError(), SystemExit(), GeneratorExit(), BaseExceptionGroup("", [SystemExit()])])
def test_bug_within_a_group_makes_the_event_a_dead_letter(bug: BaseException) -> None:
    resolution = resolve(BaseExceptionGroup("", [CRMUnavailable(), bug, RetryLater(5)]))
    name = "ValueError" if isinstance(bug, ValueError) else type(next(leaf_errors(bug))).__name__
    assert (resolution.outcome, resolution.reason) == (Outcome.DEAD, f"handler_error:{name}")


@pytest.mark.parametrize("others", [[], [ValueError()], [CRMUnavailable(), SystemExit()], [LeaseLost()]])
def test_refused_token_within_a_group_parks_the_event(others: list[BaseException]) -> None:
    group = BaseExceptionGroup("", [*others, ExceptionGroup("", [NotAuthorized()])])
    assert resolve(group) == resolve(NotAuthorized())


def test_deep_groups_are_unwrapped() -> None:
    group: Exception = CRMUnavailable()
    for _ in range(5_000):
        group = ExceptionGroup("", [group])
    assert resolve(group).reason == "crm_unavailable"


def test_exception_raised_from_a_transient_error_is_a_bug() -> None:
    try:
        try:
            raise CRMUnavailable
        except CRMUnavailable as error:
            message = "no deal"
            raise KeyError(message) from error
    except KeyError as error:
        resolution = resolve(error)
    assert (resolution.outcome, resolution.reason) == (Outcome.DEAD, "handler_error:KeyError")


@pytest.mark.parametrize("after_s", [float("nan"), float("-inf"), -5, "60", None, 10**400, float("inf")])
def test_requested_wait_that_is_no_usable_number_gives_a_finite_delay(after_s: Any) -> None:
    delay_s = resolve(RetryLater(after_s)).delay_s
    assert delay_s is not None
    assert 0 <= delay_s <= 31 * 86_400


@given(attempt=st.integers(1, 3), seed=st.integers())
def test_delay_is_at_most_the_schedules(attempt: int, seed: int) -> None:
    delay_s = delay(attempt, CRMUnavailable(), seed)
    assert delay_s is not None
    assert 0 <= delay_s <= SCHEDULE[attempt - 1]


def test_delays_are_spread_over_the_whole_range() -> None:
    delays = [delay(3, CRMUnavailable(), seed) or 0 for seed in range(200)]
    assert min(delays) < 1
    assert max(delays) > 59


def test_retries_end_with_the_schedule() -> None:
    assert delay(4, CRMUnavailable()) is None


@given(requested_s=st.floats(0.1, 86_400), seed=st.integers())
def test_longer_delay_that_hubspot_requests_wins(requested_s: float, seed: int) -> None:
    delay_s = delay(1, RateLimited(retry_after_s=requested_s), seed)
    assert delay_s is not None
    assert delay_s >= requested_s


def test_retries_that_hubspot_delayed_together_are_spread_over_a_second() -> None:
    delays = [delay(1, RateLimited(retry_after_s=30.0), seed) or 0 for seed in range(200)]
    assert 30 <= min(delays) < 30.1
    assert 30.9 < max(delays) <= 31


def test_delay_that_a_handler_requests_is_kept() -> None:
    assert (delay(1, RetryLater(after_s=30.0)) or 0) >= 30


def test_permanent_error_becomes_a_dead_letter() -> None:
    resolution = resolve(ObjectNotFound(correlation_id="c-1"))
    assert (resolution.outcome, resolution.reason, resolution.correlation_id) == (
        Outcome.DEAD,
        "object_not_found",
        "c-1",
    )


def test_refused_token_does_not_count_as_an_attempt() -> None:
    resolution = resolve(NotAuthorized(), 99)
    assert (resolution.outcome, resolution.delay_s, resolution.counts_as_attempt) == (
        Outcome.PARKED,
        PAUSED_RETRY_S,
        False,
    )


@pytest.mark.parametrize(
    "error", [NotAuthorized(), LeaseLost(), RedisConnectionError(), RateLimited(policy=DAILY_POLICY), PortalMoving()]
)
def test_error_that_every_wait_leaves_in_place_spends_attempts_and_ends_dead(error: Exception) -> None:
    attempt = runs = free_runs = 0
    while (resolution := resolve(error, attempt + 1, free_runs=free_runs)).outcome is not Outcome.DEAD:
        runs += 1
        attempt += resolution.counts_as_attempt
        free_runs += resolution.is_free_run
    assert (free_runs, attempt) == (free_run_limit(error), len(SCHEDULE))
    assert runs == free_runs + attempt


def test_reason_of_a_bug_is_its_class_without_the_message() -> None:
    assert resolve(KeyError("ann@example.com")).reason == "handler_error:KeyError"


@given(st.sampled_from([*TRANSIENT, *PERMANENT, NotAuthorized()]), st.integers(1, 10))
def test_resolution_is_either_final_or_delayed(error: BaseException, attempt: int) -> None:
    resolution = resolve(error, attempt)
    assert (resolution.outcome in TERMINAL) is (resolution.delay_s is None)


@pytest.mark.parametrize(
    ("error", "reason", "delay_s", "correlation_id"),
    [
        (NotAuthorized(correlation_id="c-1"), "not_authorized", PAUSED_RETRY_S, "c-1"),
        (RateLimited(policy=DAILY_POLICY), "rate_limited", PAUSED_RETRY_S, ""),
        (PortalMoving(retry_after_s=3_600), "portal_moving", PAUSED_RETRY_S, ""),
        (LeaseLost(), "lease_lost", 1.0, ""),
        (RedisConnectionError(), "redis_away", 1.0, ""),
        (AuthenticationError("Authentication required."), "redis_away", 1.0, ""),  # the password was changed
        (NoPermissionError("no permissions to run the 'hset' command"), "redis_away", 1.0, ""),
    ],
)
def test_event_that_cannot_run_now_is_parked_without_an_attempt(
    error: BaseException, reason: str, delay_s: float, correlation_id: str
) -> None:
    parked = Resolution(
        Outcome.PARKED, reason, delay_s, counts_as_attempt=False, correlation_id=correlation_id, is_free_run=True
    )
    assert resolve(error, 99) == parked


def test_retry_keeps_reason_delay_and_correlation_id() -> None:
    delay_s = random.Random(1).uniform(0, SCHEDULE[1])
    retried = Resolution(Outcome.RETRIED, "crm_unavailable", delay_s, correlation_id="c-1")
    assert resolve(CRMUnavailable(correlation_id="c-1"), 2) == retried


def test_parked_event_has_a_reason_and_a_delay() -> None:
    assert parked_for("worker_ends", 3.0) == Resolution(Outcome.PARKED, "worker_ends", 3.0, counts_as_attempt=False)


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        ([ValueError(), LeaseLost()], "lease_lost"),
        ([RateLimited(policy=DAILY_POLICY), ValueError()], "handler_error:ValueError"),
        ([CRMUnavailable(), RateLimited(policy=DAILY_POLICY)], "rate_limited"),
        ([CRMUnavailable(), RedisConnectionError()], "crm_unavailable"),
        ([CRMUnavailable(), RetryLater(0.5)], "retry_later"),
    ],
)
def test_one_error_of_a_group_decides(errors: list[Exception], reason: str) -> None:
    assert resolve(ExceptionGroup("", errors)).reason == reason


@pytest.mark.parametrize(
    ("error", "reason"), [(ValueError(), "handler_error:ValueError"), (TimeoutError(), "handler_timeout")]
)
def test_error_that_is_not_hubspots_has_no_correlation_id(error: Exception, reason: str) -> None:
    resolution = resolve(error)
    assert (resolution.reason, resolution.correlation_id) == (reason, "")


@pytest.mark.parametrize(("after_s", "requested_s"), [(0.5, 0.5), (-5.0, 0.0), (float("nan"), None)])
def test_requested_delay_is_not_negative(after_s: float, requested_s: float | None) -> None:
    assert requested_delay_s(RetryLater(after_s)) == requested_s
