"""The background tasks of a process. None of them ends unseen.

A task that raises is logged with the place, alerted, and started again after a growing pause. Redis outages are no
failures: they are waited out.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final

from redis.exceptions import RedisError

from spokes.core.redis.errors import RedisFault, classify, first_word
from spokes.core.redis.outage import RedisOutage
from spokes.core.telemetry.alerts import Alert
from spokes.core.telemetry.error_places import error_place
from spokes.core.telemetry.setup import report_error

_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 60.0
_CANCEL_RETRY_S: Final = 0.2


class Background:
    """Starts background tasks and keeps them running until `close`."""

    def __init__(self, outage: RedisOutage, report: Callable[..., Awaitable[None]]) -> None:
        """Wait out outages with `outage`; `report` is `AlertEpisodes.report_once`."""
        self._outage = outage
        self._report = report
        self._tasks: list[asyncio.Task[None]] = []
        self._is_closing = False

    def start(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run a task until it returns; call `run` again whenever it raises."""
        self._tasks.append(asyncio.create_task(self._supervise(name, run), name=name))

    def every(self, seconds: float, name: str, step: Callable[[], Awaitable[None] | None]) -> None:
        """Call `step` at once, and again `seconds` after each call."""

        async def repeat() -> None:
            while True:
                if (result := step()) is not None:
                    await result
                self._outage.mark_available(name)
                await asyncio.sleep(seconds)

        self.start(name, repeat)

    async def close(self) -> None:
        """Cancel all tasks, and wait until they have ended."""
        self._is_closing = True
        running = set(self._tasks)
        while running:  # a driver that is connecting may turn a cancellation into an error of its own
            for task in running:
                task.cancel()
            _, running = await asyncio.wait(running, timeout=_CANCEL_RETRY_S)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _supervise(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        failures = 0
        task = asyncio.current_task()
        failure: BaseException
        while True:
            started = time.monotonic()
            try:
                await run()
            except (RedisError, OSError) as error:
                if classify(error) not in {RedisFault.WRONG_TYPE, RedisFault.OTHER}:
                    await self._outage.wait(error, name)
                    continue
                failure = error
            except asyncio.CancelledError as error:
                if task is None or self._is_closing:
                    raise
                while task.cancelling():  # otherwise it escaped from an awaited task
                    task.uncancel()  # a handler cancelled this task, which is not its own
                failure = error
            except Exception as error:  # noqa: BLE001 - of any kind: the task must not end
                failure = error
            else:
                return
            failures = 1 if time.monotonic() - started > _LONGEST_PAUSE_S else failures + 1
            await self._report_failure(name, failure)
            await asyncio.sleep(pause_s(failures, random.uniform(0.5, 1.0)))

    async def _report_failure(self, name: str, error: BaseException) -> None:
        report_error(error, task=name)
        with contextlib.suppress(RedisError, OSError):  # the alert is logged before Redis is called
            await self._report(
                Alert.BACKGROUND_TASK_FAILED, task=name, error=first_word(error), error_at=error_place(error)
            )


def pause_s(failures: int, jitter: float) -> float:
    """Return the seconds before a task starts again, after this many failures in a row."""
    return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(failures, 10)) * jitter
