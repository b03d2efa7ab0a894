"""An event loop in a thread of its own, which outlives the event loops of single tests.

Simulator, receiver and worker run in it, so tests of any event loop can use the same ones.
"""

import asyncio
import threading
import weakref
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from os.path import relpath
from typing import Any, Final, TypeVar, cast

_Result = TypeVar("_Result")
_STOP_S: Final = 10.0
_ADVICE: Final = "await it before the handler returns, or start it in an asyncio.TaskGroup."
running_handler: Final = ContextVar("running_handler", default="")  # the name of the handler that runs in this context


class BackgroundLoop:
    """A running event loop; `close` ends it and its thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_task_factory(cast("Any", self._make_task))  # typeshed's protocol is a private name
        self._made_by_handlers: weakref.WeakKeyDictionary[asyncio.Future[Any], str] = weakref.WeakKeyDictionary()
        self._thread = threading.Thread(target=self._run, name="spokes-testing", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Run `work` in this loop, awaited in the caller's loop."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def run_blocking(self, work: Coroutine[Any, Any, _Result], timeout_s: float | None = None) -> _Result:
        """Run `work` in this loop; block the calling thread until it ends.

        Raises:
            TimeoutError: it takes longer than `timeout_s`.
        """
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    async def call(self, function: Callable[[], _Result]) -> _Result:
        """Call a function in this loop's thread."""

        async def work() -> _Result:
            return function()

        return await self.run(work())

    async def left_behind(self) -> str:
        """Cancel the tasks that handlers started and that still run; return a sentence about them, or nothing."""
        await asyncio.sleep(0)
        tasks = {task: handler for task, handler in self._made_by_handlers.items() if not task.done()}
        self._made_by_handlers.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return "".join(f"{handler} has left {task_text(task)} behind: {_ADVICE}" for task, handler in tasks.items())

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any
    ) -> "asyncio.Task[Any]":
        task = asyncio.Task(work, loop=loop, **options)
        if handler := running_handler.get():
            self._made_by_handlers[task] = handler
        return task

    def close(self) -> None:
        """End the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_STOP_S)
        if not self._thread.is_alive():  # otherwise a handler blocks it, and the thread ends with the process
            self._loop.close()


def task_text(task: "asyncio.Future[Any]") -> str:
    """Return a task as the function that it runs, and where that is."""
    code = getattr(task.get_coro(), "cr_code", None) if isinstance(task, asyncio.Task) else None
    return "a task" if code is None else f"the task {code.co_name} ({relpath(code.co_filename)}:{code.co_firstlineno})"
