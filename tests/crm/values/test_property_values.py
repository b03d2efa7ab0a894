"""Property values as text: known cases; a value without a text of the same meaning is refused."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spokes.core.errors import InvalidRequest
from spokes.crm.values.property_values import MAX_VALUE_CHARS, Value, property_text


class Color(StrEnum):
    RED = "red"


class Size(IntEnum):
    LARGE = 3


class Plain(Enum):
    ONE = "one"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "true"),
        (False, "false"),
        (7, "7"),
        (1.5, "1.5"),
        (2.0, "2"),
        (-0.0, "0"),
        (1e21, "1000000000000000000000"),
        (1e-7, "0.0000001"),
        (Decimal("10.50"), "10.50"),
        (Decimal("1E+3"), "1000"),
        (["A", "B"], "A;B"),
        (("A",), "A"),
        ({"B", "A", "C"}, "A;B;C"),
        (frozenset(), ""),
        ([], ""),
        (Color.RED, "red"),
        (Size.LARGE, "3"),
        ("x", "x"),
        (date(2026, 11, 23), "2026-11-23"),
        (datetime(2026, 11, 23, 20, 0, 0, 5000, tzinfo=UTC), "2026-11-23T20:00:00.005Z"),
        (datetime(2026, 11, 23, 20, tzinfo=timezone(timedelta(hours=2))), "2026-11-23T18:00:00.000Z"),
    ],
)
def test_values_are_converted_to_text(value: Value, text: str) -> None:
    assert property_text(value) == text


@pytest.mark.parametrize(
    ("value", "category"),
    [
        ({"a": 1}, "VALUE_TYPE"),
        (b"text", "VALUE_TYPE"),
        (bytearray(b"text"), "VALUE_TYPE"),
        (object(), "VALUE_TYPE"),
        (Plain.ONE, "VALUE_TYPE"),
        (time(9, 30), "VALUE_TYPE"),
        (timedelta(days=1), "VALUE_TYPE"),
        (1j, "VALUE_TYPE"),
        (iter(["A"]), "VALUE_TYPE"),
        (float("nan"), "VALUE_NOT_FINITE"),
        (float("-inf"), "VALUE_NOT_FINITE"),
        (Decimal("NaN"), "VALUE_NOT_FINITE"),
        (Decimal("sNaN"), "VALUE_NOT_FINITE"),
        (["A", ["B"]], "VALUE_LIST"),
        (["A", 1], "VALUE_LIST"),
        (["A", None], "VALUE_LIST"),
        (["", "B"], "VALUE_LIST"),
        (["A;B"], "VALUE_LIST"),
        (datetime(2026, 11, 23, 20, tzinfo=UTC).replace(tzinfo=None), "VALUE_TIME_ZONE"),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=14))), "VALUE_TIME_ZONE"),
        ("\ud83d", "VALUE_NOT_UNICODE"),
        (["\ud83d"], "VALUE_NOT_UNICODE"),
        pytest.param(10**5000, "VALUE_TOO_LONG", id="5001 digits"),
        (Decimal("1E+999999"), "VALUE_TOO_LONG"),
        (Decimal("1E-999999"), "VALUE_TOO_LONG"),
    ],
)
def test_value_without_a_text_of_the_same_meaning_is_refused(value: object, category: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        property_text(value)  # type: ignore[arg-type]  # what a handler without type checks may pass

    assert raised.value.category == category


@given(st.from_type(type).flatmap(st.from_type) | st.floats() | st.decimals() | st.lists(st.text()) | st.datetimes())
@settings(max_examples=300)
def test_any_value_becomes_a_stable_text_or_an_invalid_request(value: object) -> None:
    try:
        text = property_text(value)  # type: ignore[arg-type]  # any object at all
    except InvalidRequest:
        return
    assert type(text) is str
    assert property_text(text) == text


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63))
def test_number_is_written_exactly_and_without_an_exponent(value: float) -> None:
    text = property_text(value)

    assert "e" not in text.lower()
    assert type(value)(text) == value


def test_value_longer_than_the_limit_is_refused() -> None:
    assert len(property_text("x" * MAX_VALUE_CHARS)) == MAX_VALUE_CHARS
    with pytest.raises(InvalidRequest):
        property_text("x" * (MAX_VALUE_CHARS + 1))
