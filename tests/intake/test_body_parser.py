"""spokes.intake.body_parser: every valid event of a body is read, even among malformed elements."""

import contextlib
import time
from collections import deque

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spokes.core.errors import RejectedRequest
from spokes.core.refusals import Refusal
from spokes.intake.body_parser import parse_body
from spokes.intake.element_spans import element_spans
from tests.support.events import batch, event


def test_integers_beyond_double_precision_stay_exact() -> None:
    body = batch(event(objectId=2**53 + 1, eventId=2**63 - 1))
    (only,) = parse_body(body).events
    assert (only.object_id, only.event_id) == (str(2**53 + 1), 2**63 - 1)


def test_malformed_element_leaves_the_others_in_place() -> None:
    body = parse_body(batch(event(1), 42, event(2), {}, None))
    assert [e.object_id for e in body.events] == ["318845120001", "318845120002"]
    assert [(element.position, element.reason) for element in body.malformed] == [
        (1, "not_an_object"),
        (3, "subscription_type"),
        (4, "not_an_object"),
    ]


def test_malformed_elements_beyond_a_hundred_are_only_counted_by_reason() -> None:
    body = parse_body(batch(*[7] * 150, {}, event(1)))
    assert (len(body.events), len(body.malformed)) == (1, 100)
    assert body.unlisted == {"not_an_object": 50, "subscription_type": 1}


def test_single_object_counts_as_a_batch_of_one() -> None:
    assert len(parse_body(orjson.dumps(event())).events) == 1


def test_empty_array_is_an_empty_batch() -> None:
    assert parse_body(b"[]") == ([], [], {})


@pytest.mark.parametrize("body", [b"", b"[", b"\xff", b'["\\', b"[1]]", b'[{"a":1}', b"[" * 100_000])
def test_body_that_cannot_be_split_is_refused(body: bytes) -> None:
    with pytest.raises(RejectedRequest) as refused:
        parse_body(body)
    assert refused.value.reason is Refusal.BODY_NOT_JSON


@pytest.mark.parametrize("body", [b"1", b'"x"', b"null", b"true"])
def test_json_that_is_no_batch_is_refused(body: bytes) -> None:
    with pytest.raises(RejectedRequest) as refused:
        parse_body(body)
    assert refused.value.reason is Refusal.BODY_NOT_A_BATCH


BAD_ELEMENTS = [
    b"NaN", b"Infinity", b'{"portalId":1e400}', b"[" * 5000 + b"]" * 5000, b'{"a":}', b"", b"'x'",
    b'{"eventId":' + b"9" * 5000 + b"}",
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_ELEMENTS)
def test_unreadable_element_costs_itself_alone(bad: bytes) -> None:
    good = [orjson.dumps(event(number)) for number in range(3)]
    body = parse_body(b"[" + b",".join([*good[:2], bad, good[2]]) + b"]")
    assert [e.event_id for e in body.events] == [1_000_000, 1_000_001, 1_000_002]
    assert [(element.position, element.content) for element in body.malformed] == [(2, bad)]


@pytest.mark.parametrize("text", [b"\\ud83d", b"\\ude00x", b"\\ud83d\\ud83d", b"\xff", b"\xed\xa0\x80", b"\x01", b"\n"])
def test_text_that_no_strict_parser_reads_is_taken_and_marked(text: bytes) -> None:
    fields = {"subscriptionType": "contact.propertyChange", "propertyName": "p", "propertyValue": "TEXT"}
    (only,) = parse_body(batch(event(1, **fields)).replace(b"TEXT", b"a" + text + b"b")).events
    assert only.property_value is not None
    assert (only.property_value[0], only.property_value[-1]) == ("a", "b")
    orjson.dumps(only.raw)


def test_last_of_duplicate_names_counts() -> None:
    for damage in (b"", b"NaN,"):
        (only,) = parse_body(b"[" + damage + orjson.dumps(event(1))[:-1] + b',"objectId":7,"objectId":8}]').events
        assert only.object_id == "8"


def test_byte_order_mark_is_skipped() -> None:
    assert len(parse_body(b"\xef\xbb\xbf" + batch(event(1))).events) == 1


def test_malformed_element_keeps_its_bytes_and_ids() -> None:
    content = b'{ "portalId": 7, "eventId" : "8", "objectId":123456789012345678901234567890 }'
    (element,) = parse_body(b"[" + orjson.dumps(event()) + b" ,\n" + content + b" ]").malformed
    assert element[2:] == (content, 7, 8)


@pytest.mark.parametrize("part", [b"{},", b'"', b"[", b'{"', b"\\", b'\\"', b'{"a":"b",', b'[{"a":'])
def test_splitting_takes_time_in_proportion_to_the_body(part: bytes) -> None:
    def seconds(size: int) -> float:
        body, started = b"[" + part * (size // len(part)) + b"NaN]", time.process_time()
        with contextlib.suppress(ValueError):
            deque(element_spans(body), maxlen=0)
        return time.process_time() - started

    assert seconds(800_000) < 30 * max(seconds(100_000), 0.001)


def nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(("levels", "malformed"), [(150, 0), (198, 0), (199, 1), (240, 1)])
def test_depth_counts_from_the_element(levels: int, malformed: int) -> None:
    body = batch(event(1, sourceId=nested(levels)), *(event(number) for number in range(2, 100)))
    assert len(parse_body(body).malformed) == malformed


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@given(noise=st.lists(JSON, max_size=6), count=st.integers(0, 6), rng=st.randoms())
def test_valid_events_are_found_among_any_other_elements(noise: list[object], count: int, rng: "st.DataObject") -> None:
    elements = [*noise, *(event(n, objectId=10**15 + n) for n in range(count))]
    rng.shuffle(elements)  # type: ignore[attr-defined]  # hypothesis types randoms() as data
    try:
        body = orjson.dumps(elements)
    except orjson.JSONEncodeError:  # text with lone surrogates cannot be sent either
        return
    ids = {e.object_id for e in parse_body(body).events}
    assert {str(10**15 + n) for n in range(count)} <= ids
