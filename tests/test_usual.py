"""The usual batch: sorted out in one pass, it comes to what the careful way comes to."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import event
from core.event_keys import EventKeys
from ingest.allow_list import AllowList
from ingest.arrivals import Arrival, sort_out
from ingest.batch import sift
from ingest.usual import Usual

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


def told(arrivals: list[Arrival]) -> list[object]:
    return [
        (a.portal_id, a.received_at, a.entries, a.received, a.ignored, len(a.records), a.duplicates) for a in arrivals
    ]


@given(st.lists(elements(), max_size=5), st.sampled_from([(), (50112233,), (8,)]))
def test_it_says_what_the_careful_way_says_or_nothing(batch: list[object], portal_ids: tuple[int, ...]) -> None:
    body = orjson.dumps(batch)
    sent = orjson.loads(body)
    usual = Usual(ALLOWED, KEYS, portal_ids)
    for _ in range(2):  # what it has learned the first time it uses the second time
        found = usual.sort_out(sent, now_ms=5)
        careful = sort_out(sift(sent, body), allow_list=ALLOWED, keys=KEYS, portal_ids=portal_ids, now_ms=5)
        assert found is None or told([found]) == told(careful)


@pytest.mark.parametrize("kind", ["creation", "deletion", "restore", "privacyDeletion"])
def test_what_hubspot_sends_nearly_always_is_usual(kind: str) -> None:
    batch = [event(1, subscriptionType=f"contact.{kind}"), event(2, subscriptionType=f"company.{kind}")]
    assert Usual(ALLOWED, KEYS, ()).sort_out(batch, now_ms=5) is not None


def test_portal_that_is_not_served_is_not_usual() -> None:
    assert Usual(ALLOWED, KEYS, (8,)).sort_out([event(1)], now_ms=5) is None


def test_long_names_are_sorted_out_and_not_kept() -> None:
    usual = Usual(AllowList(["contact.propertyChange"]), EventKeys(b"secret"), ())
    raw = event(subscriptionType="contact.propertyChange", propertyName="x" * 70_000, propertyValue="1")
    arrival = usual.sort_out([raw], 1)
    assert arrival is not None
    assert (len(arrival.entries), usual._types) == (1, {})
