"""spokes.gaps.silence: no delivery is unusual only where many came on the same days before."""

import pytest

from spokes.gaps.silence import is_silent, silent_portals


@pytest.mark.parametrize(
    ("now", "days_before", "expected"),
    [
        (0, [40, 40, 40, 0, 0, 40, 40], True),
        (1, [40] * 7, False),
        (0, [40, 40, 40, 40, 40, 40, 0], False),  # nothing comes on this day of the week
        (0, [0, 0, 0, 0, 0, 40, 40], False),  # too few busy days
        (0, [19] * 7, False),  # too few events
        (0, [40] * 6, False),  # in its first week
        (0, [], False),
    ],
)
def test_silence_is_compared_with_the_same_hours_of_other_days(
    now: int, days_before: list[int], expected: bool
) -> None:
    assert is_silent(now, days_before) is expected


def test_only_portals_without_deliveries_are_silent() -> None:
    assert silent_portals({1: 5}, [{1: 50, 2: 50}] * 7) == [2]
