"""The chart of *Now*."""

import pytest

from spokes.console.pages.dashboard import draw_chart, round_up


@pytest.mark.parametrize(("value", "top"), [(0, 10), (10, 10), (11, 20), (49, 50), (501, 1000), (1000, 1000)])
def test_axis_ends_on_a_round_number(value: float, top: float) -> None:
    assert round_up(value) == top


def test_highest_value_is_inside_the_chart() -> None:
    assert draw_chart([0, 10], [5, 5]).lines == ("M0.00,100.00 L100.00,0.00", "M0.00,50.00 L100.00,50.00")
