"""The pause between batches that are not full: its properties, and simulations with it."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.lib.paced_calls import DAY_S, PacedQueues, simulate
from spokes.crm.transport import rate_budget
from spokes.crm.transport.pacing import RETURN_PARTS, BudgetUse, batch_gap_s, even_interval_s

WINDOW_S = 10.0
LIMIT = 190


@st.composite
def _uses(draw: st.DrawFn) -> BudgetUse:
    used = draw(st.integers(0, 400))
    returning = sorted(draw(st.lists(st.integers(0, used), min_size=len(RETURN_PARTS), max_size=len(RETURN_PARTS))))
    return BudgetUse(used, draw(st.integers(1, 400)), draw(st.integers(1, 50)), 0.0, returning=tuple(returning))


uses = _uses()


def gap_s(use: BudgetUse, now: float = 0.0) -> float:
    return batch_gap_s(use, now=now, window_s=WINDOW_S)


def use_of(used: int, queues: int = 2, *, returning: tuple[int, ...] = ()) -> BudgetUse:
    return BudgetUse(used, LIMIT, queues, 0.0, returning=returning)


def evenly(used: int) -> tuple[int, ...]:
    """Return how many of the used calls come back within each part of a window, if they were made evenly."""
    return tuple(int(part * used) for part in RETURN_PARTS)


def test_no_pause_before_the_first_call() -> None:
    assert batch_gap_s(None, now=5.0, window_s=WINDOW_S) == 0.0


@pytest.mark.parametrize("used", [0, 1, 15])
def test_first_calls_of_a_window_leave_without_a_pause(used: int) -> None:
    assert gap_s(use_of(used)) == 0.0


@pytest.mark.parametrize("used", [90, 150, 180])
def test_limit_used_evenly_is_spread_evenly_but_for_a_call_of_each_queue_and_one(used: int) -> None:
    assert gap_s(use_of(used, returning=evenly(used))) == pytest.approx(2 * WINDOW_S / (LIMIT - 3))


def test_calls_after_a_burst_last_until_those_of_the_burst_come_back() -> None:
    burst_comes_back_after_8_s = (0, 0, 0, 0, 0, 0, 0, 0, 140, 140)
    assert gap_s(use_of(140, returning=burst_comes_back_after_8_s)) == pytest.approx(2 * 7.0 / (LIMIT - 140 - 3))


def test_limit_that_is_used_up_is_paced_by_what_comes_back() -> None:
    all_come_back_evenly = evenly(190)
    assert gap_s(use_of(190, returning=all_come_back_evenly)) > 1.3 * gap_s(use_of(185, returning=evenly(185)))


def test_small_limit_keeps_most_of_its_calls() -> None:
    assert gap_s(BudgetUse(3, 5, 1, 0.0)) == pytest.approx(WINDOW_S / (5 - 0.5))


def test_script_counts_what_comes_back_within_the_same_parts_of_a_window() -> None:
    parts = re.search(r"RETURN_PARTS = \{(.*)\}", rate_budget._SCRIPT)
    assert parts is not None
    assert tuple(map(float, parts[1].split(","))) == RETURN_PARTS


def test_only_call_of_a_limit_leaves_without_a_pause() -> None:
    assert gap_s(BudgetUse(0, 1, 1, 0.0)) == 0.0


def test_limit_without_a_call_for_us_takes_the_longest_pause() -> None:
    assert gap_s(BudgetUse(0, 0, 1, 0.0)) == WINDOW_S / 2


def test_burst_causes_no_pause_once_half_of_the_window_has_passed() -> None:
    assert gap_s(use_of(30)) > 0.0
    assert gap_s(use_of(30), now=WINDOW_S / 2) == 0.0


def test_pause_lasts_while_most_of_the_used_calls_are_in_the_window() -> None:
    assert gap_s(use_of(60), now=1.0) == pytest.approx(2 * (WINDOW_S - 1.0) / (LIMIT - 3))


def test_pause_depends_on_the_time_since_the_latest_grant_and_not_on_the_clock() -> None:
    granted_later = replace(use_of(150), at=1_000.0)
    assert gap_s(granted_later, now=1_002.0) == gap_s(use_of(150), now=2.0)


@given(uses, st.integers(0, 100))
def test_pause_never_shrinks_as_more_is_used_that_does_not_come_back(use: BudgetUse, more: int) -> None:
    assert gap_s(replace(use, used=use.used + more)) >= gap_s(use) * (1 - 1e-9)


@given(uses)
def test_calls_at_an_even_interval_never_outrun_the_slots(use: BudgetUse) -> None:
    interval_s = even_interval_s(use, 0.0, WINDOW_S)
    free = use.available - use.used
    for part, returning in zip((*RETURN_PARTS, 1.0), (*use.returning, use.used), strict=True):
        calls = part * WINDOW_S / interval_s
        assert calls <= max(free + returning, 1.0) + 1e-6


@given(uses)
def test_interval_is_no_longer_than_the_slots_ask_for(use: BudgetUse) -> None:
    interval_s = even_interval_s(use, 0.0, WINDOW_S)
    spare = use.queues + 1
    free = [use.available - use.used + returning - spare for returning in (*use.returning, use.used)]
    assert any(
        part * WINDOW_S / interval_s >= max(left, 1.0) - 1e-6
        for part, left in zip((*RETURN_PARTS, 1.0), free, strict=True)
    )


@given(uses, st.floats(0, 100))
def test_pause_never_grows_while_no_call_is_made(use: BudgetUse, later_s: float) -> None:
    assert gap_s(use, now=later_s) <= gap_s(use)


@given(uses, st.integers(0, 1_000_000), st.integers(1, 1_000_000), st.floats(0, DAY_S))
def test_pause_is_within_half_a_window(use: BudgetUse, left: int, limit: int, left_s: float) -> None:
    assert 0.0 <= gap_s(replace(use, day_left=left, day_limit=limit, day_left_s=left_s)) <= WINDOW_S / 2


def test_day_used_as_fast_as_it_passes_causes_no_pause() -> None:
    use = replace(use_of(0), day_left=500_000, day_limit=1_000_000, day_left_s=DAY_S / 2)
    assert gap_s(use) == 0.0


def test_day_used_too_fast_is_spread_over_its_rest() -> None:
    use = replace(use_of(0), day_left=100_000, day_limit=1_000_000, day_left_s=DAY_S / 2)
    assert gap_s(use) == pytest.approx(2 * DAY_S / 2 / 100_000)


def test_rest_of_a_day_is_spread_over_what_is_left_of_it_now() -> None:
    use = replace(use_of(0), day_left=100_000, day_limit=1_000_000, day_left_s=DAY_S / 2)
    assert gap_s(use, now=3600.0) == pytest.approx(2 * (DAY_S / 2 - 3600.0) / 100_000)


def test_last_call_of_a_day_is_kept_for_its_rest() -> None:
    use = replace(use_of(0), day_left=1, day_limit=1_000_000, day_left_s=2.0)
    assert gap_s(use) == pytest.approx(2 * 2.0 / 1)


def test_day_of_one_call_that_is_used_takes_the_longest_pause() -> None:
    use = replace(use_of(0), day_left=0, day_limit=1, day_left_s=DAY_S / 2)
    assert gap_s(use) == WINDOW_S / 2


def test_day_longer_than_24_hours_causes_no_pause_while_nothing_is_used() -> None:
    use = replace(use_of(0), day_left=1_000, day_limit=1_000, day_left_s=1.1 * DAY_S)
    assert gap_s(use) == 0.0


@pytest.mark.parametrize(
    ("left", "limit", "left_s"), [(None, 9, 9.0), (5, None, 9.0), (5, 9, 0.0), (5, 9, -1.0), (5, 0, 9.0)]
)
def test_day_that_is_unknown_or_has_ended_causes_no_pause(left: int | None, limit: int | None, left_s: float) -> None:
    assert gap_s(replace(use_of(0), day_left=left, day_limit=limit, day_left_s=left_s)) == 0.0


def test_pause_grows_from_nothing_to_its_full_length_as_the_first_calls_of_a_window_are_used() -> None:
    half_way = gap_s(BudgetUse(12, 100, 1, 0.0))
    assert half_way == pytest.approx(0.5 * WINDOW_S / (100 - 2))


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("rate", [5.0, 20.0, 50.0, 500.0])
@pytest.mark.parametrize("latency_s", [0.012, 0.5])
def test_reads_and_writes_hardly_ever_wait_for_a_slot(rate: float, workers: int, latency_s: float) -> None:
    result = simulate(PacedQueues(limit=LIMIT, workers=workers, latency_s=latency_s), rate=rate, seconds=30)
    assert result.waited_for_slots <= 0.02 * len(result.calls)


@pytest.mark.parametrize("rate", [50.0, 500.0])
def test_reads_and_writes_use_most_of_the_limit(rate: float) -> None:
    result = simulate(PacedQueues(limit=LIMIT), rate=rate, seconds=60)
    assert len(result.calls) > 0.97 * LIMIT * 6


@pytest.mark.parametrize("workers", [1, 2, 4, 8])
@pytest.mark.parametrize("rate", [20.0, 50.0, 100.0, 500.0])
@pytest.mark.parametrize("is_random", [False, True])
def test_write_follows_its_read_without_a_pause_however_many_workers_share_the_limit(
    rate: float, workers: int, is_random: bool
) -> None:
    setup = PacedQueues(limit=LIMIT, workers=workers, is_random=is_random)
    result = simulate(setup, rate=rate, seconds=60)
    half_a_pause_s = 0.5 * 2 * WINDOW_S / LIMIT
    assert result.median_wait_s < half_a_pause_s + 0.03
    assert result.p99_wait_s < 0.4


def test_three_calls_in_turn_wait_for_one_pause() -> None:
    result = simulate(PacedQueues(limit=LIMIT, stages=3), rate=50.0, seconds=60)
    assert result.median_wait_s < 0.5 * 3 * WINDOW_S / LIMIT + 0.05


@pytest.mark.slow
def test_day_of_work_spreads_the_daily_limit_over_the_day() -> None:
    result = simulate(PacedQueues(limit=LIMIT, day_limit=60_000), rate=2.0, seconds=DAY_S)
    assert sum(at < DAY_S for at in result.calls) > 0.95 * 60_000
    assert result.longest_wait_s <= WINDOW_S + 1
