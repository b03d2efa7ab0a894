"""The tasks that a handler starts, and those that it leaves behind: a worker may end before they do."""

import asyncio
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from os.path import relpath
from pathlib import Path
from typing import Any, Final

_ADVICE: Final = "await it before the handler returns, or start it in an asyncio.TaskGroup."
_CANCEL_S: Final = 1.0  # until a cancelled task counts as one that ignores it
_ROOT: Final = Path(__file__).parents[3]
_OTHER_CODE: Final = (
    *(f"{_ROOT / name}/" for name in ("spokes", "workers", "ingest")),
    f"{Path(asyncio.__file__).parent}/",
)
_CALL_OF_TOOLS: Final = f"{Path(__file__).parents[1] / 'recorder.py'}"


@dataclass(slots=True, eq=False)
class HandlerTasks:
    """The tasks that one run of a handler has started."""

    handler: str
    started: list[asyncio.Task[Any]] = field(default_factory=list)
    running_after: dict[asyncio.Task[Any], str] = field(default_factory=dict)  # with what each runs

    def handler_returned(self) -> None:
        """Note which of the handler's own tasks still run, except those that it has just cancelled."""
        self.running_after = {
            task: task_text(task)
            for task in self.started
            if not task.done() and not task.cancelling() and _is_handlers_own(task)
        }

    def left_behind(self) -> Iterator[str]:
        """Yield a sentence for each task that the handler has left behind."""
        for task in self.started:
            name = f"{self.handler} has left {self.running_after.get(task) or task_text(task)} behind"
            error = _unretrieved_error(task)
            if task in self.running_after or not task.done():
                yield f"{name}: {_ADVICE}"
            elif error and _is_handlers_own(task):
                yield f"{name}, which raised {type(error).__name__}: {_ADVICE}"


running_handler: Final[ContextVar[HandlerTasks | None]] = ContextVar("running_handler", default=None)


async def end_tasks(tasks: Iterable["asyncio.Task[Any]"]) -> list["asyncio.Task[Any]"]:
    """Cancel the tasks that still run; return those that ignore it."""
    running = [task for task in tasks if not task.done()]
    for task in running:
        task.cancel()
    if not running:
        return []
    done, ignoring = await asyncio.wait(running, timeout=_CANCEL_S)
    for task in done:
        _unretrieved_error(task)
    return list(ignoring)


def task_text(task: "asyncio.Future[Any]") -> str:
    """Return a task as the function that it runs, and where that is; a call of `tools` by its name."""
    work = task.get_coro() if isinstance(task, asyncio.Task) else None
    code, frame = getattr(work, "cr_code", None), getattr(work, "cr_frame", None)
    if code is None:
        return "a task"
    if code.co_filename == _CALL_OF_TOOLS:
        return f"the call {frame.f_locals['name'] if frame else ''} of tools"
    return f"the task {code.co_name} ({relpath(code.co_filename)}:{code.co_firstlineno})"


def is_own_code(path: str) -> bool:
    """Return whether a file is of the handlers or their tests, and not of Spokes, of asyncio or of another library."""
    return not (path.startswith(_OTHER_CODE) or "/site-packages/" in path)


def _is_handlers_own(task: "asyncio.Task[Any]") -> bool:
    """Return whether a task runs code of the handlers, or a call of `tools`: libraries keep tasks of their own."""
    code = getattr(task.get_coro(), "cr_code", None)
    if code is None:
        return False
    return code.co_filename == _CALL_OF_TOOLS or is_own_code(code.co_filename)


def _unretrieved_error(task: "asyncio.Task[Any]") -> BaseException | None:
    """Return the exception of a task that nothing has awaited, and keep asyncio from printing it."""
    if not task.done() or task.cancelled() or not getattr(task, "_log_traceback", False):
        return None
    return task.exception()
