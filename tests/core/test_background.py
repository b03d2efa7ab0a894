"""spokes.core.background: a task that fails is reported and starts again; an outage is waited out."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.testing import capture_logs

from spokes.audit.alerts.alert_episodes import AlertEpisodes
from spokes.core import background as background_module
from spokes.core.background import Background, pause_s
from spokes.core.redis import outage as redis_outage
from spokes.core.redis.keys import ALERT_OUTBOX
from spokes.core.redis.outage import RedisOutage


@pytest.fixture
async def background(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Background]:
    for module, name in ((background_module, "_FIRST_PAUSE_S"), (redis_outage, "_FIRST_WAIT_S")):
        monkeypatch.setattr(module, name, 0.001)
    background = Background(RedisOutage(), AlertEpisodes(redis).report_once)
    yield background
    await background.close()


class Task:
    """A task that raises the next of `errors` at each run, and then works."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.works = asyncio.Event()

    async def run(self) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.works.set()
        await asyncio.sleep(60)


async def log_lines(task: Task, start: Callable[[], None]) -> list[Any]:
    with capture_logs() as lines:
        start()
        async with asyncio.timeout(40):
            await task.works.wait()
    return lines


@pytest.mark.parametrize("error", [KeyError("x"), asyncio.CancelledError(), ExceptionGroup("x", [ValueError()])])
async def test_task_that_raises_is_alerted_with_its_place_and_starts_again(
    redis: Redis, background: Background, error: BaseException
) -> None:
    task = Task(error)
    (line,) = await log_lines(task, lambda: background.start("example", task.run))
    assert (line["event"], line["task"], line["error"]) == ("background_task_failed", "example", type(error).__name__)
    assert "test_background.py:" in line["error_at"]
    assert await redis.llen(ALERT_OUTBOX) == 1  # type: ignore[misc]  # redis-py types one class for sync and async


async def test_key_of_another_type_does_not_end_a_task(redis: Redis, background: Background) -> None:
    await redis.set("number", 1)
    task = Task()

    async def run() -> None:
        await redis.lpush("number", 1)  # type: ignore[misc]  # as above
        await task.run()

    async def repair() -> None:
        await asyncio.sleep(0.1)
        await redis.delete("number")

    repairing = asyncio.ensure_future(repair())
    lines = await log_lines(task, lambda: background.start("example", run))
    await repairing
    assert {(line["event"], line["error"]) for line in lines} == {("background_task_failed", "WRONGTYPE")}


async def test_outage_is_no_failure_of_a_task(background: Background) -> None:
    task = Task(RedisConnectionError(), RedisConnectionError())
    lines = await log_lines(task, lambda: background.every(60, "example", task.run))
    assert [line["event"] for line in lines] == ["redis_outage_started"]


async def test_success_of_a_repeated_step_ends_the_outage(background: Background) -> None:
    errors: list[Exception] = [RedisConnectionError()]
    succeeded = asyncio.Event()

    async def step() -> None:
        if errors:
            raise errors.pop()
        asyncio.get_running_loop().call_soon(succeeded.set)

    with capture_logs() as lines:
        background.every(0.001, "example", step)
        await succeeded.wait()
    assert [line["event"] for line in lines] == ["redis_outage_started", "redis_outage_ended"]


async def test_task_that_swallows_its_cancellation_once_is_closed(background: Background) -> None:
    started = asyncio.Event()

    async def run() -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise OSError from None

    background.start("example", run)
    await started.wait()
    async with asyncio.timeout(40):
        await background.close()


def test_pauses_grow_up_to_a_minute() -> None:
    pauses = [pause_s(failures, 1.0) for failures in range(1, 30)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (1.0, 60.0)


async def test_task_that_something_else_cancels_starts_again(background: Background) -> None:
    task = Task()
    background.start("cancelled", task.run)
    await task.works.wait()
    task.works.clear()
    (running,) = [each for each in asyncio.all_tasks() if each.get_name() == "cancelled"]
    running.cancel()
    async with asyncio.timeout(40):
        await task.works.wait()
