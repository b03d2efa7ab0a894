"""What the parts of a worker rely on in its process, and a handler may change: it is put back when a handler ends.

A replaced `asyncio.sleep` would reach every loop of the worker, and a worker that ignores SIGTERM would be killed.
"""

import asyncio
import signal
import time
from typing import Any, Final

import structlog

_FUNCTIONS: Final[tuple[tuple[Any, str], ...]] = (
    (asyncio, "sleep"), (asyncio, "create_task"), (asyncio, "current_task"), (asyncio, "gather"), (asyncio, "shield"),
    (asyncio, "timeout"), (asyncio, "wait"), (asyncio, "get_running_loop"), (time, "monotonic"), (time, "time"),
)  # fmt: skip
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
log = structlog.get_logger()


class ProcessGlobals:
    """The functions, signal handlers and task factory of this process as they were when the worker started."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._functions = [(module, name, getattr(module, name)) for module, name in _FUNCTIONS]
        self._signals = [(number, signal.getsignal(number)) for number in _SIGNALS]
        self._task_factory = loop.get_task_factory()

    def restore(self, handler: str) -> None:
        """Put back what was changed since the start; `handler` is the one that has ended."""
        changed = []
        for module, name, original in self._functions:
            if getattr(module, name) is not original:
                setattr(module, name, original)
                changed.append(f"{module.__name__}.{name}")
        for number, original in self._signals:
            if signal.getsignal(number) is not original and original is not None:
                signal.signal(number, original)
                changed.append(signal.Signals(number).name)
        if self._loop.get_task_factory() is not self._task_factory:
            self._loop.set_task_factory(self._task_factory)
            changed.append("task factory")
        if changed:
            log.warning(
                "process_state_restored", handler=handler, changed=changed,
                advice="The handler changed what its whole worker uses. It must leave it as it is.",
            )  # fmt: skip
