"""workers.lanes.lanes: journal events that probably repeat a pushed one."""

import pytest

from spokes.core.delivery import Entry
from spokes.core.events import Event
from tests.workers.lanes.test_lanes import change
from workers.lanes.lanes import HandlerCall, WorkItem, unproven_pairs

AT = 1_795_442_400_000


def item(at: int, intake: str, name: str = "phone") -> WorkItem:
    raw = change(at, name)
    parsed = Event(raw)
    parsed.intake = intake  # type: ignore[assignment]  # one of the four
    return WorkItem(None, Entry(str(at), 0, raw), parsed)  # type: ignore[arg-type]  # counting needs no run


@pytest.mark.parametrize(
    ("intake", "newest", "pairs"),
    [("journal", AT + 900, 1), ("journal", AT - 900, 1), ("journal", AT, 1), ("journal", AT - 1001, 0),
     ("journal", 0, 0), ("push", AT + 1, 0)],
)  # fmt: skip
def test_journal_event_close_to_an_applied_change_counts(intake: str, newest: int, pairs: int) -> None:
    assert unproven_pairs(HandlerCall(item(AT, intake)), {"phone": newest, "email": AT}) == pairs


@pytest.mark.parametrize(
    ("covering", "covered", "pairs"),
    [("push", "journal", 1), ("journal", "push", 1), ("journal", "journal", 0), ("push", "push", 0)],
)
def test_pushed_change_in_the_same_call_counts(covering: str, covered: str, pairs: int) -> None:
    call = HandlerCall(item(AT + 5, covering), (item(AT, covered),))
    assert unproven_pairs(call, {}) == pairs
