"""The event loop of a worker process, which no SystemExit, KeyboardInterrupt or `loop.stop()` of a handler ends.

asyncio stores every other exception of a task for whoever awaits it, but lets these two leave the loop as well. A
handler may run tasks of its own (`asyncio.gather`, `TaskGroup`), so catching what leaves the handler is not enough.
"""

import asyncio
import sys
import threading
from collections.abc import Coroutine
from typing import Any, Final, NoReturn

import structlog
import uvloop

from spokes.core.telemetry.setup import report_error
from workers.protected_process import ProcessCallRefused, exit_process

_CANCEL_TIMEOUT_S: Final = 1.0
_OWN_EXECUTOR: Final = "Make an executor of your own, and pass it to `loop.run_in_executor`."
_MAX_INTERRUPTIONS: Final = 10_000  # a loop that is broken for good ends its worker
log = structlog.get_logger()


class _WorkerLoop(uvloop.Loop):
    """An event loop whose default executor handlers share: none of them may end or replace it."""

    def shutdown_default_executor(self, *_: object, **__: object) -> NoReturn:
        raise ProcessCallRefused("loop.shutdown_default_executor", _OWN_EXECUTOR)

    def set_default_executor(self, *_: object, **__: object) -> NoReturn:
        raise ProcessCallRefused("loop.set_default_executor", _OWN_EXECUTOR)


def run_until_done(main: Coroutine[Any, Any, int]) -> int:
    """Run `main` on a new event loop until it has ended; return its exit code, or raise its error.

    The process exits at once if a task or a thread of a handler does not end.
    """
    loop = _WorkerLoop()
    asyncio.set_event_loop(loop)
    try:
        task = loop.create_task(main)
        interruptions = 0
        while not task.done():
            try:
                loop.run_until_complete(task)
            except BaseException as error:
                interruptions += 1
                if task.done() or loop.is_closed() or interruptions > _MAX_INTERRUPTIONS:
                    raise
                # A task's SystemExit or KeyboardInterrupt, which is its result as well; a handler's `loop.stop()`;
                # or what a signal handler of a handler raised between two tasks. All tasks continue.
                log.warning("interruption_of_the_event_loop_ignored", error=type(error).__name__)
                report_error(error)
        return task.result()
    finally:
        if not _close(loop) or _has_threads():
            sys.stdout.flush()
            sys.stderr.flush()
            exit_process(task.result() if task.done() and task.exception() is None else 1)


def _has_threads() -> bool:
    """Return whether a thread of a handler keeps the interpreter from exiting."""
    return any(not thread.daemon and thread is not threading.main_thread() for thread in threading.enumerate())


def _close(loop: uvloop.Loop) -> bool:
    """Cancel all tasks and close the loop; return False if a task or thread of a handler does not end."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    tasks.add(loop.create_task(uvloop.Loop.shutdown_default_executor(loop)))
    _, pending = loop.run_until_complete(asyncio.wait(tasks, timeout=_CANCEL_TIMEOUT_S))
    if pending:
        log.warning("tasks_left_behind", tasks=len(pending))
        return False
    loop.run_until_complete(loop.shutdown_asyncgens())
    asyncio.set_event_loop(None)
    loop.close()
    return True
