"""Wait for what other tasks or processes do."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import IO, Any


async def until(condition: Callable[[], object | Awaitable[object]], *, seconds: float = 90.0) -> None:
    """Return once the condition, a function or a coroutine function, is true.

    The default is longer than any machine needs: a test that fails ends it early only if its own time limit does.

    Raises:
        AssertionError: it is not true within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if await answer if inspect.isawaitable(answer) else answer:
            return
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition.__qualname__}"
        await asyncio.sleep(0.02)


def read_until(text: bytes, stream: IO[bytes]) -> None:
    """Read the output of a process up to the line that holds `text`.

    Raises:
        AssertionError: the output ended before; with what was read.
    """
    lines: list[bytes] = []
    while line := stream.readline():
        lines.append(line)
        if text in line:
            return
    raise AssertionError(f"no {text!r} in {b''.join(lines).decode(errors='replace')}")


async def end(task: asyncio.Future[Any]) -> None:
    """Cancel a task and wait for its end; again after seconds, because `wait_for` of Python 3.11 may lose it."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=10)
