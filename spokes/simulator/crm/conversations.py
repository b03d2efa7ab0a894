"""Threads of the conversations inbox. They cause events but have no read API, so only their ids exist."""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Final

from spokes.simulator.changes import CONVERSATION, USER, Change, ChangeKind, ObjectRef
from spokes.simulator.clock import Clock

_FIRST_THREAD: Final = 9_336_126_552


class Conversations:
    """The inbox of one portal; `on_change` is called with every change in it."""

    def __init__(self, clock: Clock, rng: Random, on_change: Callable[[Change], None]) -> None:
        self._clock = clock
        self._rng = rng
        self._on_change = on_change
        self._next_thread = _FIRST_THREAD

    def start(self) -> str:
        """Start a thread and return its id."""
        self._next_thread += self._rng.randint(1, 97)
        thread_id = str(self._next_thread)
        self._on_change(self._build_change(ChangeKind.CREATION, thread_id))
        return thread_id

    def add_message(self, thread_id: str, message_type: str = "MESSAGE") -> str:
        """Add a message (or a COMMENT) and return its id, 32 hex digits."""
        message_id = f"{self._rng.getrandbits(128):032x}"
        change = self._build_change(ChangeKind.NEW_MESSAGE, thread_id)
        self._on_change(replace(change, message_id=message_id, message_type=message_type))
        return message_id

    def set_property(self, thread_id: str, name: str, value: str) -> None:
        """Change `assignedTo`, `status` or `isArchived`."""
        changed = self._build_change(ChangeKind.PROPERTY_CHANGE, thread_id)
        self._on_change(replace(changed, property_name=name, property_value=value))

    def delete(self, thread_id: str) -> None:
        """Delete a thread."""
        self._on_change(self._build_change(ChangeKind.DELETION, thread_id))

    def erase(self, thread_id: str) -> None:
        """Erase a thread, as a privacy deletion does."""
        self._on_change(self._build_change(ChangeKind.PRIVACY_DELETION, thread_id))

    def _build_change(self, kind: ChangeKind, thread_id: str) -> Change:
        return Change(kind, ObjectRef(CONVERSATION, thread_id), USER, self._clock.now_ms())
