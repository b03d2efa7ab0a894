"""A JSON file that is changed in place: everything else in it keeps its order, its spelling and its white space. Pure.

`json.dumps` would rewrite the whole file, and a review would show every line as changed.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from json.decoder import scanstring  # type: ignore[attr-defined]  # undocumented, and stable since Python 2.6
from typing import Any, Final, TypeAlias

from spokes.core.errors import ConfigurationError

Path: TypeAlias = Sequence[str | int]
_WHITE_SPACE: Final = re.compile(r"[ \t\r\n]*")
_SCALAR: Final = re.compile(r"[^\s,\]}]+")


@dataclass(slots=True)
class _Node:
    """Where a value is in the text; the values of an object by name, or those of an array."""

    start: int
    end: int = 0
    members: dict[str, "_Node"] = field(default_factory=dict)
    items: list["_Node"] = field(default_factory=list)


class JsonDocument:
    """The text of a JSON object, and its values."""

    def __init__(self, text: str, name: str) -> None:
        """Parse `text`; `name` is the file's, for error messages.

        Raises:
            ConfigurationError: it is no JSON object.
        """
        self.text = text
        self._name = name
        self._parse()

    def get(self, *path: str | int) -> Any:
        """Return the value at a path, None if there is none."""
        value = self._value
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def list_at(self, *path: str) -> list[Any]:
        """Return the array at a path, empty if there is none.

        Raises:
            ConfigurationError: another value is there.
        """
        value = self.get(*path)
        if value is not None and not isinstance(value, list):
            raise self._wrong(path, "an array")
        return value or []

    def set(self, path: Path, value: object) -> None:
        """Replace the value at a path, or insert it with the objects around it.

        Raises:
            ConfigurationError: a part of the path is no object.
        """
        node, depth = self._deepest(path)
        if depth == len(path):
            if self.get(*path) != value or isinstance(self.get(*path), bool) != isinstance(value, bool):
                self._replace(node.start, node.end, self._render(value, self._indent_at(node.start)))
            return
        if self.text[node.start] != "{":
            raise self._wrong(path[:depth], "an object")
        for part in reversed(path[depth + 1 :]):
            value = {part: value}
        self._insert(node, list(node.members.values()), f"{json.dumps(path[depth])}{self._colon}", value)

    def extend(self, path: Path, values: Sequence[object]) -> None:
        """Add items to the array at a path, which is created if it is missing.

        Raises:
            ConfigurationError: another value is there.
        """
        if not values:
            return
        node, depth = self._deepest(path)
        if depth < len(path) or self.get(*path) is None:
            self.set(path, [])
            node, _ = self._deepest(path)
        if self.text[node.start] != "[":
            raise self._wrong(path, "an array")
        self._insert(node, node.items, "", *values)

    def remove_item(self, path: Path, index: int) -> None:
        """Remove an item from the array at a path."""
        items = self._deepest(path)[0].items
        node = items[index]
        if index:
            self._replace(items[index - 1].end, node.end, "")
        elif len(items) > 1:
            self._replace(node.start, items[1].start, "")
        else:
            array = self._deepest(path)[0]
            self._replace(array.start, array.end, "[]")

    def _parse(self) -> None:
        name = self._name
        try:
            self._value = json.loads(self.text.removeprefix("\ufeff"), parse_constant=_refuse_constant)
        except json.JSONDecodeError as error:
            raise ConfigurationError([f"{name}:{error.lineno}: no JSON ({error.msg}). Correct the file."]) from None
        except (ValueError, RecursionError):
            raise ConfigurationError([f"{name}: no JSON. Correct the file."]) from None
        if not isinstance(self._value, dict):
            raise ConfigurationError([f"{name}: holds no JSON object. Correct the file."])
        start = _skip(self.text, 1 if self.text.startswith("\ufeff") else 0)
        self._root = _scan(self.text, start)
        self._newline = "\r\n" if "\r\n" in self.text else "\n"
        self._unit, self._colon, self._comma = _style(self.text, self._root)

    def _deepest(self, path: Path) -> tuple[_Node, int]:
        """Return the node of the longest existing part of a path, and the length of that part."""
        node = self._root
        for depth, part in enumerate(path):
            if isinstance(part, int):
                if part >= len(node.items):
                    return node, depth
                node = node.items[part]
            elif part in node.members:
                node = node.members[part]
            else:
                return node, depth
        return node, len(path)

    def _insert(self, parent: _Node, siblings: Sequence[_Node], prefix: str, *values: object) -> None:
        """Add values to an object or array, in the way in which its other values are written."""
        indent, is_item = self._indent_at(parent.start), not prefix
        if siblings and "\n" not in self.text[parent.start : siblings[0].start]:
            text = self._comma.join(prefix + self._dump(value) for value in values)
            self._replace(siblings[-1].end, siblings[-1].end, f"{self._comma}{text}")
            return
        if not siblings and not self._unit:
            self._replace(parent.start + 1, parent.end - 1, self._comma.join(prefix + self._dump(v) for v in values))
            return
        inner = self._indent_at(siblings[0].start) if siblings else indent + self._unit
        is_spread = any("\n" in self.text[sibling.start : sibling.end] for sibling in siblings)
        texts = [
            prefix + (self._dump(value) if is_item and not is_spread else self._render(value, inner))
            for value in values
        ]
        lines = f",{self._newline}{inner}".join(texts)
        if siblings:
            self._replace(siblings[-1].end, siblings[-1].end, f",{self._newline}{inner}{lines}")
        else:
            filling = f"{self._newline}{inner}{lines}{self._newline}{indent}"
            self._replace(parent.start + 1, parent.end - 1, filling)

    def _render(self, value: object, indent: str) -> str:
        """Return a value as the file writes it, objects over several lines."""
        if not self._unit or not isinstance(value, dict) or not value:
            return self._dump(value)
        text = json.dumps(value, indent=self._unit, ensure_ascii=False, separators=(",", self._colon))
        return text.replace("\n", f"{self._newline}{indent}")

    def _dump(self, value: object) -> str:
        return json.dumps(value, ensure_ascii=False, separators=(self._comma, self._colon))

    def _indent_at(self, position: int) -> str:
        """Return the white space with which the line of a position begins."""
        line_start = self.text.rfind("\n", 0, position) + 1
        return self.text[line_start : _skip(self.text, line_start)] if line_start else ""

    def _replace(self, start: int, end: int, text: str) -> None:
        self.text = f"{self.text[:start]}{text}{self.text[end:]}"
        self._parse()

    def _wrong(self, path: Path, kind: str) -> ConfigurationError:
        return ConfigurationError([f"{self._name}: {'.'.join(map(str, path))} is not {kind}. Correct the file."])


def _refuse_constant(_name: str) -> float:
    raise ValueError


def _skip(text: str, position: int) -> int:
    match = _WHITE_SPACE.match(text, position)
    return match.end() if match else position


def _scan(text: str, start: int) -> _Node:
    """Return the node of the valid JSON value that begins at `start`."""
    node = _Node(start)
    if text[start] not in "{[":
        node.end = scanstring(text, start + 1)[1] if text[start] == '"' else _scalar_end(text, start)
        return node
    position = _skip(text, start + 1)
    while text[position] not in "}]":
        if text[start] == "{":
            name, position = scanstring(text, position + 1)
            position = _skip(text, _skip(text, position) + 1)
            child = node.members[name] = _scan(text, position)
        else:
            child = _scan(text, position)
            node.items.append(child)
        position = _skip(text, child.end)
        if text[position] == ",":
            position = _skip(text, position + 1)
    node.end = position + 1
    return node


def _scalar_end(text: str, start: int) -> int:
    match = _SCALAR.match(text, start)
    return match.end() if match else start + 1


def _style(text: str, root: _Node) -> tuple[str, str, str]:
    """Return the indentation of the file (empty for a file of one line), and what it writes after names and items."""
    colon = ":" if re.search(r'":\S', text) and not re.search(r'": ', text) else ": "
    comma = "," if colon == ":" else ", "
    first = next(iter(root.members.values()), None)
    if first is None:
        return "  ", colon, comma
    line = re.search(r"\n([ \t]+)", text[root.start : first.start])
    return (line.group(1) if line else ""), colon, comma
