"""spokes.intake.body_parser: every good event of a body is read, whatever stands beside it."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spokes.core.errors import RejectedRequest
from spokes.core.refusals import Refusal
from spokes.intake.body_parser import ParsedBody, parse_json, split_events
from tests.support.events import batch, event


def sifted(body: bytes) -> ParsedBody:
    return split_events(parse_json(body), body)


def test_numbers_beyond_double_precision_stay_exact() -> None:
    body = batch(event(objectId=2**53 + 1, eventId=2**63 - 1))
    (only,) = sifted(body).events
    assert (only.object_id, only.event_id) == (str(2**53 + 1), 2**63 - 1)


def test_one_bad_element_leaves_the_others_in_place() -> None:
    found = sifted(batch(event(1), 42, event(2), {}, None))
    assert [e.object_id for e in found.events] == ["318845120001", "318845120002"]
    assert [(q.position, q.reason) for q in found.malformed] == [
        (1, "not_an_object"),
        (3, "subscription_type"),
        (4, "not_an_object"),
    ]


def test_bad_elements_beyond_a_hundred_are_counted_by_reason_alone() -> None:
    found = sifted(batch(*[7] * 150, {}, event(1)))
    assert (len(found.events), len(found.malformed)) == (1, 100)
    assert found.unlisted == {"not_an_object": 50, "subscription_type": 1}


def test_single_object_counts_as_a_batch_of_one() -> None:
    assert len(sifted(orjson.dumps(event())).events) == 1


def test_empty_array_is_an_empty_batch() -> None:
    assert sifted(b"[]") == ([], [], {})


@pytest.mark.parametrize("body", [b"", b"[", b"\xff", b'["\\ud800"]', b"[NaN]", b"[" * 100_000])
def test_what_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(RejectedRequest) as refused:
        parse_json(body)
    assert refused.value.reason is Refusal.BODY_NOT_JSON


@pytest.mark.parametrize("body", [b"1", b'"x"', b"null", b"true"])
def test_json_that_is_no_batch_is_refused(body: bytes) -> None:
    with pytest.raises(RejectedRequest) as refused:
        parse_json(body)
    assert refused.value.reason is Refusal.BODY_NOT_A_BATCH


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@given(noise=st.lists(JSON, max_size=6), good=st.integers(0, 6), at=st.randoms())
def test_good_events_survive_any_company(noise: list[object], good: int, at: "st.DataObject") -> None:
    elements = [*noise, *(event(n, objectId=-1 - n) for n in range(good))]
    at.shuffle(elements)  # type: ignore[attr-defined]  # hypothesis types randoms() as data
    try:
        body = orjson.dumps(elements)
    except orjson.JSONEncodeError:  # text with lone surrogates cannot be sent either
        return
    ids = {e.object_id for e in sifted(body).events}
    assert {str(-1 - n) for n in range(good)} <= ids
