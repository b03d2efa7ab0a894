"""What the parts of a worker rely on in its process, and a handler may change: it is put back when a handler ends.

A replaced `asyncio.sleep` would reach every loop of the worker, and a worker that ignores SIGTERM would be killed.
"""

import asyncio
import signal
import time
from _signal import getsignal  # type: ignore[import-not-found]  # that of `signal` makes an enum of each result
from operator import itemgetter
from typing import Any, Final

import structlog

_ASYNCIO_NAMES: Final = (
    "sleep", "create_task", "current_task", "gather", "shield", "timeout", "wait", "get_running_loop",
)  # fmt: skip
_TIME_NAMES: Final = ("monotonic", "perf_counter", "time", "time_ns")
_FUNCTIONS: Final[tuple[tuple[Any, str], ...]] = (
    *((asyncio, name) for name in _ASYNCIO_NAMES), *((time, name) for name in _TIME_NAMES),
)  # fmt: skip
_asyncio_functions: Final = itemgetter(*_ASYNCIO_NAMES)
_time_functions: Final = itemgetter(*_TIME_NAMES)
_ASYNCIO: Final = vars(asyncio)
_TIME: Final = vars(time)
_SIGTERM: Final = int(signal.SIGTERM)
_SIGINT: Final = int(signal.SIGINT)
log = structlog.get_logger()


class ProcessGlobals:
    """The functions, signal handlers and task factory of this process as they were when the worker started."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._functions = [(module, name, getattr(module, name)) for module, name in _FUNCTIONS]
        self._signals = [(number, getsignal(number)) for number in (_SIGTERM, _SIGINT)]
        self._task_factory = loop.get_task_factory()
        self.original = self.current()

    def current(self) -> tuple[object, ...]:
        """Return everything that is put back: one comparison with `original` after each handler instead of a dozen."""
        return (
            _asyncio_functions(_ASYNCIO), _time_functions(_TIME), getsignal(_SIGTERM), getsignal(_SIGINT),
            self._loop.get_task_factory(),
        )  # fmt: skip

    def restore(self, handler: str) -> None:
        """Put back what was changed since the start; `handler` is the one that has ended."""
        changed = []
        for module, name, original in self._functions:
            if getattr(module, name) is not original:
                setattr(module, name, original)
                changed.append(f"{module.__name__}.{name}")
        for number, original in self._signals:
            if getsignal(number) is not original and original is not None:
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
