"""Error responses as exceptions: any body is parsed without an exception of another kind."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spokes.core.errors import CRMError, InvalidRequest, ObjectNotFound
from spokes.crm.batching.batch_results import match_results
from spokes.crm.transport.errors.error_mapping import (
    error_from_entry,
    error_from_response,
    ids_in_entry,
    parse_retry_after,
)
from spokes.crm.transport.response_json import text_id

NOW = datetime(2026, 11, 23, 20, tzinfo=UTC)
FIELDS = ["category", "message", "correlationId", "errors", "context", "ids", "results", "id", "policyName"]
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**50), 2**50) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=6),
    max_leaves=12,
)


@given(st.integers(100, 599), ANY_JSON)
def test_any_json_body_becomes_an_error(status: int, body: object) -> None:
    error = error_from_response(status, {}, orjson.dumps(body), NOW)

    assert isinstance(error, CRMError)
    assert error.status == status


@given(st.integers(400, 599), st.binary(max_size=60))
def test_any_bytes_become_an_error(status: int, body: bytes) -> None:
    assert error_from_response(status, {}, body, NOW).status == status


@given(st.dictionaries(st.sampled_from(["category", "context", "message", "errors"]), ANY_JSON))
def test_any_batch_error_entry_becomes_an_error(entry: dict[str, object]) -> None:
    assert isinstance(error_from_entry(entry), CRMError)
    assert all(isinstance(input_id, str) for input_id in ids_in_entry(entry))


@given(ANY_JSON)
def test_any_batch_response_accounts_for_every_input(body: object) -> None:
    results = match_results(["1", "2"], body if isinstance(body, dict) else {}, lambda item: text_id(item.get("id")))

    assert sorted([*results.found, *results.failed, *results.unknown]) == ["1", "2"]


@given(st.text(max_size=30))
def test_any_retry_after_is_parsed_without_exception(text: str) -> None:
    seconds = parse_retry_after(text, NOW)

    assert seconds is None or 0 <= seconds <= 86_400


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0), ("120", 120), (" 5 ", 5), ("0.5", 0.5), ("172800", 86_400), ("9999999", 86_400),
        *[(text, None) for text in ("soon", "", "inf", "NaN", "1e9", "1e400", "9" * 400, "-5", "1_0", "0x10", "1, 2")],
        ("\u0663", None), (None, None), ("Mon, 23 Nov 2026 20:00:10 +99999999999999", None),
        (format_datetime(NOW + timedelta(seconds=30), usegmt=True), 30),
        (format_datetime(NOW - timedelta(seconds=30), usegmt=True), 0),
        ("Mon, 23 Nov 2026 20:00:10 -0000", 10),
    ],
)  # fmt: skip
def test_retry_after_in_seconds(text: str | None, seconds: float | None) -> None:
    assert parse_retry_after(text, NOW) == seconds


def test_entry_without_a_known_category_is_an_invalid_request() -> None:
    assert isinstance(error_from_entry({"category": "WHO_KNOWS"}), InvalidRequest)


def test_error_without_input_is_the_error_of_missing_inputs() -> None:
    body = {"results": [{"id": "1"}], "errors": [{"category": "VALIDATION_ERROR"}]}

    results = match_results(["1", "2"], body, lambda item: text_id(item.get("id")))

    assert list(results.found) == ["1"]
    assert isinstance(results.failed["2"], InvalidRequest)


def test_missing_input_is_not_found() -> None:
    results = match_results(["1", "2"], {"results": [{"id": "1"}]}, lambda item: text_id(item.get("id")))

    assert isinstance(results.failed["2"], ObjectNotFound)
