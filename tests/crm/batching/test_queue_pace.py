"""The pace of one batch queue: its properties."""

from hypothesis import given
from hypothesis import strategies as st

from spokes.crm.batching.queue_pace import QueuePace

GAP_S = 1.0

gaps = st.floats(0.01, 5.0)


TWO_AT_ONCE = [(0.0, 0.0, 0.0, 1)] * 2


def paced_queue(*batches: tuple[float, float, float, int]) -> QueuePace:
    """Return a queue that sent batches: time of the first input, of the last, of the batch, and its inputs."""
    pace = QueuePace()
    for first, last, left, inputs in batches:
        pace.input_added(first)
        pace.input_added(last)
        pace.batch_left(left, GAP_S, inputs)
    return pace


def test_first_batch_may_leave_at_once() -> None:
    assert QueuePace().due(5.0, GAP_S) <= 5.0


def test_second_batch_may_leave_at_once_and_the_third_waits() -> None:
    assert paced_queue((0.0, 0.0, 0.0, 1)).due(0.0, GAP_S) <= 0.0
    assert paced_queue(*TWO_AT_ONCE).due(0.0, GAP_S) == GAP_S


def test_batch_may_leave_at_once_while_calls_are_not_scarce() -> None:
    pace = paced_queue(*[(0.0, 0.0, 0.0, 1)] * 5)
    assert pace.due(0.0, 0.0) <= 0.0
    assert pace.batches_ahead(0.0, 0.0) == 0.0


def test_batch_that_waits_leaves_sooner_when_the_pause_becomes_shorter() -> None:
    pace = paced_queue(*TWO_AT_ONCE)
    assert pace.due(0.0, GAP_S / 4) == GAP_S / 4


def test_queue_whose_waiting_adds_nothing_pauses_shorter() -> None:
    followed_up = paced_queue(*TWO_AT_ONCE, (0.1, 0.11, 1.0, 5))
    filled = paced_queue(*TWO_AT_ONCE, (0.1, 0.99, 1.0, 5))
    assert followed_up.due(1.0, GAP_S) < filled.due(1.0, GAP_S)


def test_waiting_is_counted_from_the_first_input_at_any_time_of_the_clock() -> None:
    pace = paced_queue((100.0, 100.0, 100.0, 1), (100.0, 100.0, 100.0, 1), (100.1, 100.11, 101.0, 5))
    assert pace.due(101.0, GAP_S) < 101.0 + GAP_S


def test_queue_whose_waiting_adds_inputs_again_pauses_its_full_length() -> None:
    pace = paced_queue(*TWO_AT_ONCE, (0.1, 0.11, 1.0, 5), (1.0, 1.9, 2.0, 5), (2.0, 2.9, 3.0, 5))
    assert pace.due(3.0, GAP_S) > 3.0 + 0.8 * GAP_S


def test_batch_that_left_without_a_pause_does_not_count_when_calls_become_scarce() -> None:
    pace = QueuePace()
    pace.batch_left(0.0, 0.0, 1)
    assert pace.batches_ahead(0.0, GAP_S) == 0.0


def test_two_inputs_show_that_waiting_was_of_no_use() -> None:
    pace = paced_queue(*TWO_AT_ONCE, (0.1, 0.11, 1.0, 2))
    assert pace.due(1.0, GAP_S) < 1.0 + GAP_S


def test_full_batches_delay_a_later_one_by_two_pauses_at_most() -> None:
    pace = paced_queue(*[(0.0, 0.0, 0.0, 100)] * 20)
    assert pace.due(0.0, GAP_S) == 2 * GAP_S


def test_batch_of_one_input_does_not_change_the_length_of_the_pause() -> None:
    pace = paced_queue(*TWO_AT_ONCE, (0.1, 0.1, 1.0, 1))
    assert pace.due(1.0, GAP_S) == 1.0 + GAP_S


@given(st.lists(st.tuples(st.floats(0.0, 1.0), gaps, st.integers(1, 100)), min_size=2, max_size=60))
def test_queue_that_keeps_to_its_pauses_is_never_two_batches_ahead(steps: list[tuple[float, float, int]]) -> None:
    pace, now = QueuePace(), 0.0
    for idle_s, gap_s, inputs in steps:
        now += idle_s
        pace.input_added(now)
        now = max(pace.due(now, gap_s), now)
        pace.batch_left(now, gap_s, inputs)
        assert pace.batches_ahead(now, gap_s) < 2.2


@given(st.lists(st.floats(0.0, 1.0), min_size=20, max_size=80))
def test_batches_keep_at_least_a_shortened_pause_on_the_average(idles: list[float]) -> None:
    pace, now, left = QueuePace(), 0.0, []
    for idle_s in idles:
        now += idle_s
        pace.input_added(now)
        now = max(pace.due(now, GAP_S), now)
        pace.batch_left(now, GAP_S, 2)
        left.append(now)
    assert left[-1] - left[0] >= 0.85 * GAP_S * (len(left) - 3)


@given(st.floats(0.0, 10.0), st.floats(0.0, 10.0), gaps)
def test_due_time_of_a_waiting_batch_stays_as_time_passes(earlier: float, later: float, gap_s: float) -> None:
    pace = paced_queue(*TWO_AT_ONCE)
    first, second = sorted((earlier, earlier + later))
    if pace.batches_ahead(second, gap_s) > 0:
        assert abs(pace.due(first, gap_s) - pace.due(second, gap_s)) < 1e-6
