"""spokes.core.priority, and how deliveries keep their class: pure."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spokes.core.delivery import Delivery, Entry, decode, job_payload
from spokes.core.priority import BULK_SOURCES, PRIORITIES, Priority, priority_of
from tests.support.events import event

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("source", sorted(BULK_SOURCES))
def test_change_of_a_bulk_source_is_an_import(source: str) -> None:
    assert priority_of(source) == "import"


@given(ANY_JSON)
def test_every_other_change_is_interactive(source: object) -> None:
    expected = "import" if isinstance(source, str) and source in BULK_SOURCES else "interactive"
    assert priority_of(source) == expected


SOURCES = st.lists(st.sampled_from(["CRM_UI", "IMPORT", "MIGRATION", "BATCH_UPDATE", None, 5, ["IMPORT"]]), max_size=4)


def delivery_of(sources: list[object], priority: Priority) -> Delivery:
    entries = tuple(Entry(f"{at:020x}", 0, event(at, changeSource=source)) for at, source in enumerate(sources))
    return Delivery("50112233-1-1", 50112233, 1, entries, priority)


@given(SOURCES, st.sampled_from(PRIORITIES))
def test_stored_delivery_keeps_its_class(sources: list[object], priority: Priority) -> None:
    delivery = delivery_of(sources, priority)
    restored = Delivery.from_job(decode(job_payload(delivery, 1))["a"][0])
    is_only_imports = bool(sources) and all(priority_of(source) == "import" for source in sources)
    assert restored.priority == ("import" if priority == "import" or is_only_imports else "interactive")


@given(SOURCES)
def test_delivery_without_a_stored_class_is_classified_by_its_events(sources: list[object]) -> None:
    job = orjson.loads(orjson.dumps(delivery_of(sources, "interactive").to_job()))
    assert "class" not in job
    is_only_imports = bool(sources) and all(priority_of(source) == "import" for source in sources)
    assert Delivery.from_job(job).priority == ("import" if is_only_imports else "interactive")


@given(ANY_JSON)
def test_unreadable_class_is_ignored(stored: object) -> None:
    job = {**delivery_of(["CRM_UI"], "interactive").to_job(), "class": stored}
    assert Delivery.from_job(job).priority == ("import" if stored == "import" else "interactive")
