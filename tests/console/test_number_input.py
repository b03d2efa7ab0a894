"""Numbers in requests."""

import pytest

from spokes.console.number_input import parse_number


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("50112233", 50112233), ("9" * 18, 10**18 - 1)])
def test_number_of_at_most_18_digits_is_read(text: str, number: int) -> None:
    assert parse_number(text) == number


@pytest.mark.parametrize("text", ["", "9" * 19, "9" * 100_000, "-1", "+1", " 1", "1_0", "1.0", "\u0663", "\u00b2", "x"])
def test_other_text_is_no_number(text: str) -> None:
    assert parse_number(text) is None
