"""workers.delivery.resolution and workers.delivery.resolution: when to try again, and what an end means."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spokes.audit.records import TERMINAL, Outcome
from spokes.core.errors import (
    Conflict,
    CRMError,
    CRMUnavailable,
    InvalidRequest,
    NotAuthorized,
    NotPermitted,
    ObjectLocked,
    ObjectNotFound,
    PortalMoving,
    RateLimited,
    RetryLater,
)
from workers.delivery.resolution import PAUSED_RETRY_S, next_delay_s, resolution_for_error

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


@pytest.mark.parametrize("error", TRANSIENT, ids=lambda e: type(e).__name__)
def test_transient_error_is_tried_again(error: BaseException) -> None:
    assert delay(1, error) is not None


@pytest.mark.parametrize("error", PERMANENT, ids=lambda e: type(e).__name__)
def test_permanent_error_is_not(error: BaseException) -> None:
    assert delay(1, error) is None


@given(attempt=st.integers(1, 3), seed=st.integers())
def test_wait_is_at_most_the_schedules(attempt: int, seed: int) -> None:
    waited = delay(attempt, CRMUnavailable(), seed)
    assert waited is not None
    assert 0 <= waited <= SCHEDULE[attempt - 1]


def test_waits_are_spread_over_the_whole_range() -> None:
    waits = [delay(3, CRMUnavailable(), seed) or 0 for seed in range(200)]
    assert min(waits) < 1
    assert max(waits) > 59


def test_tries_end_with_the_schedule() -> None:
    assert delay(4, CRMUnavailable()) is None


@given(named=st.floats(0.1, 86_400), seed=st.integers())
def test_hubspots_own_wait_wins_where_it_is_longer(named: float, seed: int) -> None:
    waited = delay(1, RateLimited(retry_after_s=named), seed)
    assert waited is not None
    assert waited >= named


def test_what_hubspot_held_up_together_comes_back_within_a_second_and_not_at_once() -> None:
    waits = [delay(1, RateLimited(retry_after_s=30.0), seed) or 0 for seed in range(200)]
    assert 30 <= min(waits) < 30.1
    assert 30.9 < max(waits) <= 31


def test_wait_that_a_handler_names_is_kept() -> None:
    assert (delay(1, RetryLater(after_s=30.0)) or 0) >= 30


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (NotPermitted(scopes=("crm.objects.deals.read",)), ("crm.objects.deals.read",)),
        (InvalidRequest(category="EMAIL_INVALID"), ("EMAIL_INVALID",)),
        (InvalidRequest(), ()),
        (ObjectNotFound(category="OBJECT_NOT_FOUND"), ()),
    ],
)
def test_refusal_tells_by_name_what_is_to_be_mended(error: CRMError, told: tuple[str, ...]) -> None:
    assert resolution_for_error(1, error, schedule_s=SCHEDULE, rng=random.Random(1)).error_details == told


def test_permanent_error_makes_a_dead_letter() -> None:
    verdict = resolution_for_error(1, ObjectNotFound(correlation_id="c-1"), schedule_s=SCHEDULE, rng=random.Random(1))
    assert (verdict.outcome, verdict.reason, verdict.correlation_id) == (Outcome.DEAD, "object_not_found", "c-1")


def test_refused_token_spends_no_attempt() -> None:
    verdict = resolution_for_error(99, NotAuthorized(), schedule_s=SCHEDULE, rng=random.Random(1))
    assert (verdict.outcome, verdict.delay_s, verdict.counts_as_attempt) == (Outcome.PARKED, PAUSED_RETRY_S, False)


def test_bug_is_named_by_class_and_not_by_its_text() -> None:
    assert (
        resolution_for_error(1, KeyError("ann@example.com"), schedule_s=SCHEDULE, rng=random.Random(1)).reason
        == "handler_error:KeyError"
    )


@given(st.sampled_from([*TRANSIENT, *PERMANENT, NotAuthorized()]), st.integers(1, 10))
def test_event_ends_or_waits_and_never_both(error: BaseException, attempt: int) -> None:
    verdict = resolution_for_error(attempt, error, schedule_s=SCHEDULE, rng=random.Random(1))
    assert (verdict.outcome in TERMINAL) is (verdict.delay_s is None)
