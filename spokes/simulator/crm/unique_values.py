"""Holders of unique property values, such as a contact's e-mail address. Values that differ only in case are equal."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from spokes.simulator.crm.object_types import ObjectType


class Holder(NamedTuple):
    """A unique property, a value of it, and the record that has it."""

    name: str
    value: str
    object_id: str


class UniqueValues:
    """The record that holds each value of a unique property; `unique_names` returns the unique ones of a type."""

    def __init__(self, unique_names: Callable[[ObjectType], Iterable[str]]) -> None:
        self._unique_names = unique_names
        self._holders: dict[tuple[str, str, str], str] = {}
        self._keys_by_record: dict[tuple[str, str], set[tuple[str, str, str]]] = {}

    def is_unique(self, type_: ObjectType, name: str) -> bool:
        """Return whether `name` is a unique property of this type."""
        return name in self._unique_names(type_)

    def holder(self, type_: ObjectType, name: str, value: str) -> str | None:
        """Return the id of the record that holds the value."""
        return self._holders.get((type_.type_id, name, value.lower()))

    def conflict(self, type_: ObjectType, id_: str | None, values: Mapping[str, str]) -> Holder | None:
        """Return another record that holds one of these values."""
        for name in self._unique_names(type_):
            holder = self.holder(type_, name, values[name]) if values.get(name) else None
            if holder is not None and holder != id_:
                return Holder(name, values[name], holder)
        return None

    def assign(self, type_: ObjectType, id_: str, values: Mapping[str, str]) -> None:
        """Make the record the holder of those `values` that are unique and not empty."""
        for name in self._unique_names(type_):
            if values.get(name):
                key = (type_.type_id, name, values[name].lower())
                self._holders[key] = id_
                self._keys_by_record.setdefault((type_.type_id, id_), set()).add(key)

    def release(self, type_: ObjectType, id_: str, names: Iterable[str] | None = None) -> None:
        """Release the record's values of these properties, or all its values."""
        keys = self._keys_by_record.get((type_.type_id, id_), set())
        released_names = None if names is None else set(names)
        for key in [key for key in keys if released_names is None or key[1] in released_names]:
            keys.discard(key)
            del self._holders[key]

    def move(self, type_: ObjectType, old_id: str, new_id: str) -> None:
        """Move a merged record's values to its survivor: a contact keeps all its former addresses."""
        keys = self._keys_by_record.pop((type_.type_id, old_id), set())
        for key in keys:
            self._holders[key] = new_id
        self._keys_by_record.setdefault((type_.type_id, new_id), set()).update(keys)
