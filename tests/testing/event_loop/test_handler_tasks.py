"""Tasks that a handler starts and does not await: each is named, and none keeps the tests from ending."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress

import pytest

from spokes.testing.event_loop.background_loop import BackgroundLoop
from spokes.testing.event_loop.handler_tasks import HandlerTasks, running_handler

TASKS: list[object] = []  # asyncio keeps weak references only


@pytest.fixture
def loop() -> Iterator[BackgroundLoop]:
    loop = BackgroundLoop()
    yield loop
    loop.close()


async def forever() -> None:
    await asyncio.sleep(3600)


async def briefly() -> None:
    await asyncio.sleep(0)


async def fail() -> None:
    raise ValueError("a value")


async def ignore_cancellation() -> None:
    for _ in range(2):
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)


async def left_behind(loop: BackgroundLoop, handler: Callable[[], Awaitable[None]]) -> str:
    """Run a handler as the kit does; return the sentences about its tasks."""

    async def run() -> None:
        tasks = HandlerTasks("contacts.greet")
        token = running_handler.set(tasks)
        try:
            await handler()
            tasks.handler_returned()
        finally:
            running_handler.reset(token)

    await loop.run(run())
    return await loop.run(loop.left_behind())


@pytest.mark.parametrize("work", [forever, briefly, fail])
async def test_task_that_still_runs_when_the_handler_returns_is_named(
    loop: BackgroundLoop, work: Callable[[], Awaitable[None]]
) -> None:
    async def handler() -> None:
        TASKS.append(asyncio.ensure_future(work()))

    sentence = await left_behind(loop, handler)
    assert sentence.startswith(
        f"contacts.greet has left the task {work.__name__} (tests/testing/event_loop/test_handler_tasks.py:"
    )
    assert "asyncio.TaskGroup" in sentence
    assert await loop.run(loop.left_behind()) == ""


async def test_error_that_nobody_awaits_is_named_without_its_text(loop: BackgroundLoop) -> None:
    async def handler() -> None:
        TASKS.append(asyncio.ensure_future(fail()))
        await asyncio.sleep(0.01)

    sentence = await left_behind(loop, handler)
    assert "behind, which raised ValueError: await it" in sentence
    assert "a value" not in sentence


async def test_task_that_ignores_its_cancellation_does_not_keep_the_tests_from_ending(loop: BackgroundLoop) -> None:
    async def handler() -> None:
        TASKS.append(asyncio.ensure_future(ignore_cancellation()))
        await asyncio.sleep(0)

    async with asyncio.timeout(20):
        sentence = await left_behind(loop, handler)
    assert "It ignores its cancellation: the task ignore_cancellation (" in sentence


async def test_tasks_that_end_with_the_handler_are_none_of_them(loop: BackgroundLoop) -> None:
    async def handler() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(briefly())
        await asyncio.gather(briefly(), briefly())
        cancelled = asyncio.ensure_future(forever())
        cancelled.cancel()
        await asyncio.gather(asyncio.ensure_future(fail()), return_exceptions=True)

    assert await left_behind(loop, handler) == ""
