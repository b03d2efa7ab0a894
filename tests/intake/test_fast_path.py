"""The usual batch: sorted out in one pass, it comes to what the careful way comes to."""

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import to_builtins

from spokes.intake.allow_list import AllowList
from spokes.intake.body_parser import parse_json, split_events
from spokes.intake.classification import ClassifiedDelivery, classify
from spokes.intake.event_keys import EventKeys
from spokes.intake.fast_path import FastPath
from tests.support.events import event

KEYS = EventKeys(b"k" * 32)
ALLOWED = AllowList(["contact.creation", "contact.propertyChange:email", "object.deletion", "2-77.restore"])
ANY: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 2**63 - 1), st.floats(allow_nan=False), st.text(max_size=3),
    st.lists(st.integers(-3, 2**63 - 1), max_size=2), st.just({"a": 1}),
)  # fmt: skip
TYPES = [
    "contact.creation", "contact.propertyChange", "object.propertyChange", "object.creation", "object.deletion",
    "2-77.restore", "contact.merge", "contact.associationChange", "odd.kind", "", "company.restore",
]  # fmt: skip


@st.composite
def elements(draw: st.DrawFn) -> object:
    """An element that is nearly always an event, and often odd in one field."""
    raw = event(
        draw(st.integers(0, 3)),
        subscriptionType=draw(st.sampled_from(TYPES)),
        portalId=draw(st.sampled_from([50112233, 50112233, 7])),
        propertyName=draw(st.sampled_from(["email", "city", None])),
        propertyValue=draw(st.sampled_from(["a", "", None])),
        objectTypeId=draw(st.sampled_from(["0-1", "2-77", None])),
    )
    if draw(st.integers(0, 9)) == 0:
        raw[draw(st.sampled_from([*raw, "primaryObjectId"]))] = draw(ANY)
    return raw if draw(st.integers(0, 19)) else draw(ANY)


def told(arrivals: list[ClassifiedDelivery]) -> list[object]:
    return [
        (
            (a.portal_id, a.received_at, a.keys, a.times, to_builtins(a.elements)),
            (
                a.received_count,
                a.ignored,
                a.duplicate_count,
                [replace(record, id="", at=0, delivery_id="") for record in a.records],
            ),
        )
        for a in arrivals
    ]


def carefully(body: bytes, portal_ids: tuple[int, ...] = ()) -> list[ClassifiedDelivery]:
    return classify(
        split_events(parse_json(body), body), allow_list=ALLOWED, keys=KEYS, portal_ids=portal_ids, now_ms=5
    )


@given(st.lists(elements(), max_size=5), st.sampled_from([(), (50112233,), (8,)]))
def test_it_says_what_the_careful_way_says_or_nothing(batch: list[object], portal_ids: tuple[int, ...]) -> None:
    body = orjson.dumps(batch)
    usual = FastPath(ALLOWED, KEYS, portal_ids)
    for _ in range(2):  # what it has learned the first time it uses the second time
        found = usual.classify(body, now_ms=5)
        assert found is None or told([found]) == told(carefully(body, portal_ids))


ODD = [
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


@given(st.integers(0, 400), st.integers(0, 4), st.one_of(st.sampled_from(ODD), st.binary(max_size=2)))
def test_body_that_the_careful_way_cannot_read_is_not_usual(place: int, less: int, put: bytes) -> None:
    whole = orjson.dumps([event(1, subscriptionType="contact.propertyChange", propertyName="email", propertyValue="ä")])
    body = whole[:place] + put + whole[place + less :]
    if found := FastPath(ALLOWED, KEYS, ()).classify(body, now_ms=5):
        assert told([found]) == told(carefully(body))


def test_number_that_the_careful_way_would_not_keep_exact_is_not_usual() -> None:
    body = orjson.dumps([event(1)]).replace(b"318845120001", b"1" * 20)
    assert FastPath(ALLOWED, KEYS, ()).classify(body, now_ms=5) is None


def test_element_is_kept_with_what_is_null_in_it() -> None:
    raw = event(1, changeSource=None)
    arrival = FastPath(ALLOWED, KEYS, ()).classify(orjson.dumps([raw]), now_ms=5)
    assert arrival is not None
    assert to_builtins(arrival.elements) == [raw]


@pytest.mark.parametrize("kind", ["creation", "deletion", "restore", "privacyDeletion"])
def test_what_hubspot_sends_nearly_always_is_usual(kind: str) -> None:
    batch = [event(1, subscriptionType=f"contact.{kind}"), event(2, subscriptionType=f"company.{kind}")]
    assert FastPath(ALLOWED, KEYS, ()).classify(orjson.dumps(batch), now_ms=5) is not None


def test_portal_that_is_not_served_is_not_usual() -> None:
    assert FastPath(ALLOWED, KEYS, (8,)).classify(orjson.dumps([event(1)]), now_ms=5) is None


def test_long_names_are_sorted_out_and_not_kept() -> None:
    usual = FastPath(AllowList(["contact.propertyChange"]), EventKeys(b"secret"), ())
    raw = event(subscriptionType="contact.propertyChange", propertyName="x" * 70_000, propertyValue="1")
    arrival = usual.classify(orjson.dumps([raw]), 1)
    assert arrival is not None
    assert (len(arrival.keys), usual._type_cache) == (1, {})
