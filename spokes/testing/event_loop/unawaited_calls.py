"""Calls of `tools` that a handler makes without `await`: they do nothing, and the event is processed all the same."""

import sys
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass, field
from inspect import CORO_CREATED, getcoroutinestate, iscoroutine
from os.path import relpath
from typing import TYPE_CHECKING, Any, NamedTuple

from spokes.testing.event_loop.handler_tasks import HandlerTasks, is_own_code

if TYPE_CHECKING:
    from types import FrameType


class _Call(NamedTuple):
    work: Coroutine[Any, Any, Any]  # what the handler awaits
    result: Awaitable[Any]  # what `work` awaits
    name: str
    place: str


@dataclass(slots=True)
class UnawaitedCalls:
    """The calls of one run of a handler, and a sentence for each that nothing has awaited when it returned."""

    tasks: HandlerTasks
    sentences: list[str] = field(default_factory=list)
    _calls: list[_Call] = field(default_factory=list)

    def add(self, work: Coroutine[Any, Any, Any], result: Awaitable[Any], name: str) -> None:
        """Note a call at the moment at which the handler makes it."""
        self._calls.append(_Call(work, result, name, _place_of_handler()))

    def handler_ended(self) -> None:
        """Write a sentence for each call that has not begun. Tasks that have not begun are named as tasks."""
        begun_later = {id(task.get_coro()) for task in self.tasks.started}
        for call in self._calls:
            if getcoroutinestate(call.work) == CORO_CREATED and id(call.work) not in begun_later:
                self.sentences.append(
                    f"{self.tasks.handler} calls {call.name} without await ({call.place}), so the call does nothing: "
                    "write await before it."
                )
                for each in (call.work, call.result):  # or Python would warn of a line that has nothing to do with it
                    if iscoroutine(each):
                        each.close()
        self._calls.clear()


def _place_of_handler() -> str:
    """Return file and line of the code outside Spokes that makes a call."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - for those who show where code is
    while frame is not None and not is_own_code(frame.f_code.co_filename):
        frame = frame.f_back
    return f"{relpath(frame.f_code.co_filename)}:{frame.f_lineno}" if frame else ""
