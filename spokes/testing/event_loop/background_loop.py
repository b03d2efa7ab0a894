"""An event loop in a thread of its own, which outlives the event loops of single tests.

Simulator, receiver and worker run in it, so tests of any event loop can use the same ones.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar, cast

from spokes.testing.event_loop.handler_tasks import HandlerTasks, end_tasks, running_handler, task_text

_Result = TypeVar("_Result")
_STOP_S: Final = 10.0


class BackgroundLoop:
    """A running event loop; `close` ends it and its thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_task_factory(cast("Any", self._make_task))  # typeshed's protocol is a private name
        self._runs: dict[HandlerTasks, None] = {}  # of handlers that have started tasks, in their order
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
        """End the tasks that handlers have left behind; return a sentence about each, or nothing."""
        await asyncio.sleep(0)
        runs, self._runs = self._runs, {}
        sentences = [sentence for run in runs for sentence in run.left_behind()]
        ignoring = await end_tasks(task for run in runs for task in run.started)
        return " ".join([*sentences, *(f"It ignores its cancellation: {task_text(task)}." for task in ignoring)])

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any
    ) -> "asyncio.Task[Any]":
        task = asyncio.Task(work, loop=loop, **options)
        if run := running_handler.get():
            run.started.append(task)
            self._runs[run] = None
        return task

    def close(self) -> None:
        """End the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_STOP_S)
        if not self._thread.is_alive():  # otherwise a handler blocks it, and the thread ends with the process
            self._loop.close()
