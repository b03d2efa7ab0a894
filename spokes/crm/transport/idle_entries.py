"""Entries that are made at their first use and forgotten when idle: memory follows use, not history."""

from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")

_KEEP: Final = 1_000  # entries that are never examined


class IdleEntries(Generic[Key, Value]):
    """Values by key. Idle ones are forgotten each time the number of entries has doubled, so that no use costs much."""

    def __init__(self, make: Callable[[Key], Value], is_idle: Callable[[Value], bool], *, keep: int = _KEEP) -> None:
        """Make values with `make`; `is_idle` returns whether nothing is lost if a value is made again."""
        self._make = make
        self._is_idle = is_idle
        self._keep = keep
        self._examine_at = keep
        self._values: dict[Key, Value] = {}

    def __getitem__(self, key: Key) -> Value:
        """Return the value of a key, made now if there is none."""
        value = self._values.get(key)
        if value is None:
            if len(self._values) >= self._examine_at:
                self.forget_idle()
            value = self._values[key] = self._make(key)
        return value

    def __iter__(self) -> Iterator[Key]:
        """Iterate over the keys."""
        return iter(self._values)

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._values)

    def get(self, key: Key) -> Value | None:
        """Return the value of a key, None if there is none."""
        return self._values.get(key)

    def items(self) -> Iterator[tuple[Key, Value]]:
        """Iterate over keys and values."""
        return iter(self._values.items())

    def forget_idle(self) -> None:
        """Forget the entries that are idle."""
        self._values = {key: value for key, value in self._values.items() if not self._is_idle(value)}
        self._examine_at = max(self._keep, 2 * len(self._values))
