"""Wait for what other tasks or processes do."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], object | Awaitable[object]], *, seconds: float = 40.0) -> None:
    """Return once the condition, a function or a coroutine function, is true.

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
