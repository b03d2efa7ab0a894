"""Changing a JSON file in place."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spokes.core.errors import ConfigurationError
from spokes.subscriptions.project.json_document import JsonDocument

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3)
)
STYLES = st.sampled_from(
    [
        {"indent": 2},
        {"indent": 4},
        {"indent": "\t"},
        {"indent": None},
        {"separators": (",", ":")},
        {"indent": 2, "ensure_ascii": False},
    ]
)


def document(text: str) -> JsonDocument:
    return JsonDocument(text, "a.json")


@given(st.dictionaries(st.text(), VALUES, max_size=4), STYLES, st.text(), VALUES)
def test_member_that_is_set_is_the_only_difference(
    value: dict[str, Any], style: dict[str, Any], name: str, new: object
) -> None:
    changed = document(json.dumps(value, **style))
    changed.set((name,), new)
    assert json.loads(changed.text) == {**value, name: new}
    assert list(json.loads(changed.text)) == list({**value, name: new})


@given(st.lists(VALUES, max_size=4), STYLES, st.lists(VALUES, max_size=3))
def test_items_are_added_at_the_end_and_removed_without_a_trace(
    items: list[object], style: dict[str, Any], new: list[object]
) -> None:
    before = json.dumps({"x": {"list": items}, "y": 1}, **style)
    changed = document(before)
    changed.extend(("x", "list"), new)
    assert json.loads(changed.text) == {"x": {"list": [*items, *new]}, "y": 1}
    for index in reversed(range(len(items), len(items) + len(new))):
        changed.remove_item(("x", "list"), index)
    assert changed.text == before


@given(st.lists(VALUES, min_size=1, max_size=4), STYLES, st.data())
def test_any_item_can_be_removed(items: list[object], style: dict[str, Any], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(items) - 1))
    changed = document(json.dumps({"list": items}, **style))
    changed.remove_item(("list",), index)
    assert json.loads(changed.text) == {"list": [*items[:index], *items[index + 1 :]]}


def test_spelling_of_everything_else_is_kept() -> None:
    text = '\ufeff{\r\n  "a" :1.50e1,\r\n  "b\\u00e9": [ 1,2 ],\r\n\r\n  "c": {}\r\n}\r\n\r\n'
    changed = document(text)
    changed.set(("c", "d", "e"), "f")
    assert changed.text == text.replace('"c": {}', '"c": {\r\n    "d": {\r\n      "e": "f"\r\n    }\r\n  }')


def test_items_are_written_like_those_around_them() -> None:
    spread = document('{\n  "list": [\n    {\n      "a": 1\n    }\n  ]\n}')
    spread.extend(("list",), [{"a": 2}])
    assert spread.text == '{\n  "list": [\n    {\n      "a": 1\n    },\n    {\n      "a": 2\n    }\n  ]\n}'
    lines = document('{\n  "list": [\n    {"a": 1}\n  ]\n}')
    lines.extend(("list",), [{"a": 2}])
    assert lines.text == '{\n  "list": [\n    {"a": 1},\n    {"a": 2}\n  ]\n}'
    one_line = document('{\n  "list": ["a"]\n}')
    one_line.extend(("list",), ["b", "c"])
    assert one_line.text == '{\n  "list": ["a", "b", "c"]\n}'


def test_value_that_is_set_again_changes_nothing() -> None:
    text = '{"a":  true}'
    changed = document(text)
    changed.set(("a",), value=True)
    assert changed.text == text


def test_true_is_not_one() -> None:
    changed = document('{"active": 1}')
    changed.set(("active",), value=True)
    assert changed.text == '{"active": true}'


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"a": NaN}', "{// comment\n}", '{"a": 1,}', "[" * 100_000])
def test_file_that_is_no_json_object_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"a\.json.*Correct the file"):
        document(text)


@pytest.mark.parametrize("text", ['{"a": 1}', '{"a": "text"}', '{"a": [1]}'])
def test_value_of_another_type_in_the_way_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="a is not an object"):
        document(text).set(("a", "b"), 1)
    with pytest.raises(ConfigurationError, match="is not an"):
        document(text).extend(("a", "b"), [1])


def test_object_in_place_of_an_array_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="a is not an array"):
        document('{"a": {}}').extend(("a",), [1])
    with pytest.raises(ConfigurationError, match="a is not an array"):
        document('{"a": {}}').list_at("a")
