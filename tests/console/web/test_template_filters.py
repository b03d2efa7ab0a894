"""Template filters for durations and counts."""

import pytest

from spokes.console.web.template_filters import count, duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.42, "0.4 s"),
        (59.6, "1 min 0 s"),
        (125, "2 min 5 s"),
        (7_300, "2 h 1 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_duration_is_shown_in_two_units(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_small_counts_have_a_decimal_and_large_ones_none() -> None:
    assert [count(0), count(1.25), count(12_345.6)] == ["0", "1.2", "12,346"]
