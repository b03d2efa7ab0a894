"""spokes.intake.fast_path: one pass over a common body gives the same result as the slow path."""

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import to_builtins

from spokes.intake.allow_list import AllowList
from spokes.intake.body_parser import parse_body
from spokes.intake.classification import ClassifiedDelivery, classify
from spokes.intake.event_keys import EventKeys
from spokes.intake.fast_path import FastPath
from tests.support.events import event

KEYS = EventKeys(b"k" * 32)
ALLOW_LIST = AllowList(["contact.creation", "contact.propertyChange:email", "object.deletion", "2-77.restore"])
ANY_JSON: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=3), st.integers(-3, 2**64).map(str), st.integers(-3, 2**53).map(float), st.just("REDACTED"),
    st.lists(st.integers(-3, 2**63 - 1), max_size=2), st.just({"a": 1}),
)  # fmt: skip
TYPES = [
    "contact.creation", "contact.propertyChange", "object.propertyChange", "object.creation", "object.deletion",
    "2-77.restore", "contact.merge", "contact.associationChange", "odd.kind", "", "company.restore",
]  # fmt: skip


@st.composite
def elements(draw: st.DrawFn) -> object:
    """Draw an element: nearly always an event, often with one odd field."""
    raw = event(
        draw(st.integers(0, 3)),
        subscriptionType=draw(st.sampled_from(TYPES)),
        portalId=draw(st.sampled_from([50112233, 50112233, 7])),
        propertyName=draw(st.sampled_from(["email", "city", None])),
        propertyValue=draw(st.sampled_from(["a", "", None])),
        objectTypeId=draw(st.sampled_from(["0-1", "2-77", None])),
        changeSource=draw(st.sampled_from(["CRM_UI", "CRM_UI", "IMPORT", "BATCH_UPDATE", "API", None])),
    )
    if draw(st.integers(0, 9)) == 0:
        raw[draw(st.sampled_from([*raw, "primaryObjectId"]))] = draw(ANY_JSON)
    return raw if draw(st.integers(0, 19)) else draw(ANY_JSON)


def comparable(deliveries: list[ClassifiedDelivery]) -> list[object]:
    """Return everything but the random ids and the clock's times."""
    return [
        (
            (
                d.portal_id,
                d.priority,
                d.received_at,
                [(e.key, e.occurred_at, to_builtins(e.element)) for e in d.events],
            ),
            (
                d.received_count,
                d.ignored,
                d.duplicate_count,
                [replace(record, id="", at=0, delivery_id="") for record in d.records],
            ),
        )
        for d in deliveries
    ]


def slow_path(body: bytes, portal_ids: tuple[int, ...] = ()) -> list[ClassifiedDelivery]:
    parsed = parse_body(body)
    return classify(parsed, allow_list=ALLOW_LIST, keys=KEYS, portal_ids=portal_ids, now_ms=5)


@given(st.lists(elements(), max_size=5), st.sampled_from([(), (50112233,), (8,)]))
def test_fast_path_returns_what_the_slow_path_does_or_none(batch: list[object], portal_ids: tuple[int, ...]) -> None:
    body = orjson.dumps(batch)
    fast_path = FastPath(ALLOW_LIST, KEYS, portal_ids)
    for _ in range(2):  # without its type cache, then with it
        deliveries = fast_path.classify(body, now_ms=5)
        assert deliveries is None or comparable(deliveries) == comparable(slow_path(body, portal_ids))


ODD_BYTES = [
    b"\\ud800",
    b"\\ud83d\\ude00",
    b"\\u0065",
    b"\xff",
    b"\xed\xa0\x80",
    b"\x00",
    b"9" * 20,
    b"1e3",
    b"-0",
    b"01",
    b"{}",
    b"x",
]


@given(st.integers(0, 400), st.integers(0, 4), st.one_of(st.sampled_from(ODD_BYTES), st.binary(max_size=2)))
def test_fast_path_accepts_no_body_that_the_slow_path_refuses(position: int, removed: int, inserted: bytes) -> None:
    whole = orjson.dumps([event(1, subscriptionType="contact.propertyChange", propertyName="email", propertyValue="ä")])
    body = whole[:position] + inserted + whole[position + removed :]
    if deliveries := FastPath(ALLOW_LIST, KEYS, ()).classify(body, now_ms=5):
        assert comparable(deliveries) == comparable(slow_path(body))


def test_number_beyond_64_bits_is_left_to_the_slow_path() -> None:
    body = orjson.dumps([event(1)]).replace(b"318845120001", b"1" * 20)
    assert FastPath(ALLOW_LIST, KEYS, ()).classify(body, now_ms=5) is None


def test_null_fields_of_an_element_are_kept() -> None:
    raw = event(1, changeSource=None)
    (delivery,) = FastPath(ALLOW_LIST, KEYS, ()).classify(orjson.dumps([raw]), now_ms=5) or []
    assert [to_builtins(admitted.element) for admitted in delivery.events] == [raw]


def test_common_body_of_both_classes_becomes_a_delivery_of_each() -> None:
    batch = [event(1, changeSource="IMPORT"), event(2, changeSource="CRM_UI"), event(3, changeSource="MIGRATION")]
    deliveries = FastPath(ALLOW_LIST, KEYS, ()).classify(orjson.dumps(batch), now_ms=5) or []
    assert [(d.priority, d.received_count, len(d.events)) for d in deliveries] == [
        ("interactive", 1, 1),
        ("import", 2, 2),
    ]


@pytest.mark.parametrize("kind", ["creation", "deletion", "restore", "privacyDeletion"])
def test_common_kinds_take_the_fast_path(kind: str) -> None:
    batch = [event(1, subscriptionType=f"contact.{kind}"), event(2, subscriptionType=f"company.{kind}")]
    assert FastPath(ALLOW_LIST, KEYS, ()).classify(orjson.dumps(batch), now_ms=5) is not None


def test_unserved_portal_is_left_to_the_slow_path() -> None:
    assert FastPath(ALLOW_LIST, KEYS, (8,)).classify(orjson.dumps([event(1)]), now_ms=5) is None


def test_events_with_long_names_are_classified_and_not_cached() -> None:
    fast_path = FastPath(AllowList(["contact.propertyChange"]), EventKeys(b"secret"), ())
    raw = event(subscriptionType="contact.propertyChange", propertyName="x" * 70_000, propertyValue="1")
    (delivery,) = fast_path.classify(orjson.dumps([raw]), 1) or []
    assert (len(delivery.events), fast_path._type_cache) == (1, {})
