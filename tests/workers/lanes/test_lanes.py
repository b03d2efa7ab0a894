"""workers.lanes.lanes: which events share a lane, and which are superseded or coalesced."""

import pytest

from spokes.core.delivery import Entry
from spokes.core.events import Event
from spokes.core.redis import keys
from tests.support.events import event
from workers.lanes.lanes import HandlerCall, WorkItem, group_by_lane, is_superseded, plan_calls

LANE = keys.lane(50112233, "contact", "1")


def change(at: int, name: str = "phone", value: str = "x") -> dict[str, object]:
    return event(
        objectId=1, occurredAt=at, subscriptionType="contact.propertyChange", propertyName=name, propertyValue=value
    )


def work_item(raw: dict[str, object], key: str = "") -> WorkItem:
    return WorkItem(None, Entry(key or str(raw["occurredAt"]), 0, raw), Event(raw))  # type: ignore[arg-type]  # planning needs no run


def keys_of(plan: list[HandlerCall]) -> list[tuple[str, list[str]]]:
    """Return for each call the entry key of its item, and those of the coalesced ones."""
    return [(call.item.entry.key, [item.entry.key for item in call.coalesced]) for call in plan]


def plan(*raws: dict[str, object], newest: dict[str, int] | None = None, each: bool = False) -> list[HandlerCall]:
    return plan_calls([work_item(raw) for raw in raws], newest or {}, lambda _: each)


def test_events_of_one_object_share_a_lane() -> None:
    lanes = group_by_lane([work_item(change(3)), work_item(change(1)), work_item(event(9))])
    assert [[item.entry.key for item in items] for items in lanes.values()] == [["3", "1"], ["1795442400009"]]


def test_both_dialects_share_a_lane() -> None:
    generic = change(2) | {"subscriptionType": "object.propertyChange", "objectTypeId": "0-1"}
    assert len(group_by_lane([work_item(change(1)), work_item(generic)])) == 1


def test_merge_is_in_the_lane_of_its_survivor() -> None:
    merge = event(subscriptionType="contact.merge", objectId=5, primaryObjectId=5, mergedObjectIds=[6], newObjectId=1)
    assert list(group_by_lane([work_item(merge)])) == [LANE]


def test_events_without_an_object_have_a_lane_each() -> None:
    unknown = event(subscriptionType="contact.notYetKnown", objectId=None)
    assert len(group_by_lane([work_item(unknown, "a"), work_item(unknown, "b")])) == 2


@pytest.mark.parametrize(("at", "superseded"), [(4, True), (5, False), (6, False)])
def test_older_change_is_superseded(at: int, superseded: bool) -> None:
    assert is_superseded(work_item(change(at)), {"phone": 5}) is superseded


def test_change_of_another_property_is_not_superseded() -> None:
    assert not is_superseded(work_item(change(4, "email")), {"phone": 5})


def test_first_change_of_a_property_is_not_superseded() -> None:
    assert not is_superseded(work_item(change(0)), {})


def test_creation_is_not_superseded_by_a_later_deletion() -> None:
    assert not is_superseded(work_item(event(occurredAt=4)), {"*": 5})


def test_deletion_older_than_a_restoration_is_superseded() -> None:
    assert is_superseded(work_item(event(subscriptionType="contact.deletion", occurredAt=4)), {"*": 5})


def test_single_event_is_one_call() -> None:
    assert keys_of(plan(change(1))) == [("1", [])]


def test_burst_of_one_property_is_one_call_for_the_newest() -> None:
    assert keys_of(plan(change(2), change(3), change(1))) == [("3", ["1", "2"])]


def test_changes_of_one_millisecond_are_ordered_by_id() -> None:
    later, earlier = (change(1, value=value) | {"eventId": id_} for value, id_ in (("b", 8), ("a", 7)))
    (call,) = plan(later, earlier)
    assert (call.oldest_event.property_value, call.item.event.property_value) == ("a", "b")


def test_change_without_an_id_is_the_first_of_its_millisecond() -> None:
    without_id = change(1, value="a")
    del without_id["eventId"]
    (call,) = plan(change(1, value="b") | {"eventId": 1}, without_id)
    assert (call.oldest_event.property_value, call.item.event.property_value) == ("a", "b")


def test_call_has_the_oldest_value_and_the_newest() -> None:
    (call,) = plan(change(1, value="a"), change(2, value="b"), change(3, value="c"))
    assert (call.oldest_event.property_value, call.item.event.property_value) == ("a", "c")


def test_changes_of_other_properties_are_other_calls() -> None:
    assert keys_of(plan(change(2), change(3, "email"), change(4))) == [("3", []), ("4", ["2"])]


def test_handler_that_declares_each_event_gets_a_call_for_each() -> None:
    assert keys_of(plan(change(2), change(1), each=True)) == [("1", []), ("2", [])]


def test_each_event_is_decided_per_handler() -> None:
    items = [work_item(change(1, "email")), work_item(change(2)), work_item(change(3, "email")), work_item(change(4))]
    plan = plan_calls(items, {}, lambda item: item.event.property_name == "email")
    assert keys_of(plan) == [("1", []), ("3", []), ("4", ["2"])]


def test_superseded_changes_are_not_coalesced() -> None:
    assert keys_of(plan(change(1), change(2), newest={"phone": 5})) == [("1", []), ("2", [])]


def test_echoes_are_not_coalesced() -> None:
    items = [work_item(change(1)), work_item(change(2)), work_item(change(3))]
    items[2].is_echo = True
    assert keys_of(plan_calls(items, {}, lambda _: False)) == [("2", ["1"]), ("3", [])]


def test_restoration_covers_the_deletion_before_it() -> None:
    deletion, restore = (
        event(objectId=1, occurredAt=at, subscriptionType=f"contact.{kind}")
        for at, kind in ((1, "deletion"), (2, "restore"))
    )
    assert keys_of(plan(restore, deletion)) == [("2", ["1"])]
