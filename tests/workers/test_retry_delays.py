"""workers.queue.retry_delays: how long an event is retried, also through an outage of HubSpot."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spokes.core.errors import CRMUnavailable, ObjectLocked, ObjectMerged, PortalMoving, RateLimited, RetryLater
from spokes.core.settings import Settings
from workers.lanes.resolution import next_delay_s
from workers.queue.retry_delays import further_delays_s, is_server_failure

DAY_S = 86_400.0
SCHEDULE = tuple(Settings.model_fields["retry_schedule_s"].default)
LONGEST_S = 3_600.0


class Shortest(random.Random):
    """Draws the shortest delay each time."""

    def uniform(self, a: float, b: float) -> float:
        return min(a, b)


def delays(error: Exception, schedule: tuple[float, ...], spent: int = 0) -> list[float]:
    """Return the shortest delays after each attempt until the event is dead; `spent` attempts were made before."""
    result: list[float] = []
    while True:
        further = further_delays_s(schedule, failing_s=sum(result), outage_s=DAY_S)
        attempt = spent + len(result) + 1
        delay = next_delay_s(attempt, error, schedule_s=schedule, further_s=further, rng=Shortest())
        if delay is None:
            return result
        result.append(delay)


@pytest.mark.parametrize(
    "error", [CRMUnavailable(), CRMUnavailable(status=503), RateLimited(), ObjectLocked(), PortalMoving()], ids=repr
)
def test_event_outlives_a_day_of_failures_of_hubspot(error: Exception) -> None:
    assert sum(delays(error, SCHEDULE)) >= DAY_S


@given(schedule=st.lists(st.floats(0, 100_000), max_size=12).map(tuple))
def test_bound_holds_for_every_schedule_even_if_other_failures_have_spent_it(schedule: tuple[float, ...]) -> None:
    after_schedule = delays(CRMUnavailable(), schedule, spent=len(schedule))
    assert sum(after_schedule) >= DAY_S
    assert len(after_schedule) < 70


def test_further_delays_grow_to_an_hour() -> None:
    further = further_delays_s((2.0, 10.0), failing_s=0, outage_s=DAY_S)
    assert further[:4] == [10.0, 20.0, 40.0, 80.0]
    assert further == sorted(further)
    assert max(further) == LONGEST_S


@pytest.mark.parametrize("error", [RetryLater(), TimeoutError(), ConnectionError(), ObjectMerged()])
def test_failures_of_others_end_with_the_schedule(error: Exception) -> None:
    assert not is_server_failure(error)
    assert len(delays(error, SCHEDULE)) == len(SCHEDULE)


def test_no_outage_means_the_schedule_alone() -> None:
    assert further_delays_s(SCHEDULE, failing_s=0, outage_s=0) == []


@given(attempt=st.integers(1, 100_000), failing_s=st.floats(0, DAY_S, exclude_max=True))
def test_no_number_of_attempts_ends_the_retries_of_an_outage_before_its_hours(attempt: int, failing_s: float) -> None:
    further = further_delays_s(SCHEDULE, failing_s=failing_s, outage_s=DAY_S)
    delay_s = next_delay_s(attempt, CRMUnavailable(), schedule_s=SCHEDULE, further_s=further, rng=random.Random(1))
    assert delay_s is not None
    assert delay_s <= LONGEST_S
