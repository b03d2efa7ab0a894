"""The forms of a time that operators write."""

import pytest

from spokes.console.time_input import parse_time


@pytest.mark.parametrize(
    ("text", "epoch_ms"),
    [
        ("1795442500001", 1795442500001),
        ("2026-11-23", 1795392000000),
        ("2026-11-23T14:00", 1795442400000),
        ("2026-11-23T15:00+01:00", 1795442400000),
        ("2h", 1795442400000 - 7_200_000),
        ("7d", 1795442400000 - 604_800_000),
    ],
)
def test_time_is_parsed_in_all_its_forms(text: str, epoch_ms: int) -> None:
    assert epoch_ms == parse_time(text, now_ms=1795442400000)


@pytest.mark.parametrize("text", ["yesterday", "", "2026-13-01", "2x"])
def test_text_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the callers write the message
        parse_time(text)
