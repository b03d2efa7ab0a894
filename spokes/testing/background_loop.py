"""An event loop in a thread of its own, which outlives the event loops of single tests.

Simulator, receiver and worker run in it, so tests of any event loop can use the same ones.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

_Result = TypeVar("_Result")
_STOP_S: Final = 10.0


class BackgroundLoop:
    """A running event loop; `close` ends it and its thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
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

    def tasks(self) -> set["asyncio.Task[Any]"]:
        """Return the tasks of this loop that have not ended."""
        return asyncio.all_tasks(self._loop)

    def close(self) -> None:
        """End the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_STOP_S)
        if not self._thread.is_alive():  # otherwise a handler blocks it, and the thread ends with the process
            self._loop.close()
