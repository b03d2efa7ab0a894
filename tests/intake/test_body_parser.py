"""spokes.intake.body_parser: every valid event of a body is read, even among malformed elements."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spokes.core.errors import RejectedRequest
from spokes.core.refusals import Refusal
from spokes.intake.body_parser import ParsedBody, parse_json, split_events
from tests.support.events import batch, event


def parsed(body: bytes) -> ParsedBody:
    return split_events(parse_json(body), body)


def test_integers_beyond_double_precision_stay_exact() -> None:
    body = batch(event(objectId=2**53 + 1, eventId=2**63 - 1))
    (only,) = parsed(body).events
    assert (only.object_id, only.event_id) == (str(2**53 + 1), 2**63 - 1)


def test_malformed_element_leaves_the_others_in_place() -> None:
    body = parsed(batch(event(1), 42, event(2), {}, None))
    assert [e.object_id for e in body.events] == ["318845120001", "318845120002"]
    assert [(element.position, element.reason) for element in body.malformed] == [
        (1, "not_an_object"),
        (3, "subscription_type"),
        (4, "not_an_object"),
    ]


def test_malformed_elements_beyond_a_hundred_are_only_counted_by_reason() -> None:
    body = parsed(batch(*[7] * 150, {}, event(1)))
    assert (len(body.events), len(body.malformed)) == (1, 100)
    assert body.unlisted == {"not_an_object": 50, "subscription_type": 1}


def test_single_object_counts_as_a_batch_of_one() -> None:
    assert len(parsed(orjson.dumps(event())).events) == 1


def test_empty_array_is_an_empty_batch() -> None:
    assert parsed(b"[]") == ([], [], {})


@pytest.mark.parametrize("body", [b"", b"[", b"\xff", b'["\\ud800"]', b"[NaN]", b"[" * 100_000])
def test_invalid_json_is_refused(body: bytes) -> None:
    with pytest.raises(RejectedRequest) as refused:
        parse_json(body)
    assert refused.value.reason is Refusal.BODY_NOT_JSON


@pytest.mark.parametrize("body", [b"1", b'"x"', b"null", b"true"])
def test_json_that_is_no_batch_is_refused(body: bytes) -> None:
    with pytest.raises(RejectedRequest) as refused:
        parse_json(body)
    assert refused.value.reason is Refusal.BODY_NOT_A_BATCH


def nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(("levels", "malformed"), [(150, 0), (198, 0), (199, 1), (240, 1)])
def test_depth_counts_from_the_element(levels: int, malformed: int) -> None:
    body = batch(event(1, sourceId=nested(levels)), *(event(number) for number in range(2, 100)))
    assert len(parsed(body).malformed) == malformed


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@given(noise=st.lists(JSON, max_size=6), count=st.integers(0, 6), rng=st.randoms())
def test_valid_events_are_found_among_any_other_elements(noise: list[object], count: int, rng: "st.DataObject") -> None:
    elements = [*noise, *(event(n, objectId=-1 - n) for n in range(count))]
    rng.shuffle(elements)  # type: ignore[attr-defined]  # hypothesis types randoms() as data
    try:
        body = orjson.dumps(elements)
    except orjson.JSONEncodeError:  # text with lone surrogates cannot be sent either
        return
    ids = {e.object_id for e in parsed(body).events}
    assert {str(-1 - n) for n in range(count)} <= ids
