"""What the tests of one process share: a Redis, an event loop, and the deployment of the last test."""

import asyncio
import gc
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from spokes.routing import Router, load_router
from spokes.testing.deployment import KitDeployment
from spokes.testing.event_loop.background_loop import BackgroundLoop
from spokes.testing.event_loop.handler_tasks import end_tasks
from spokes.testing.kit import Spokes
from spokes.testing.log_capture import LogCapture
from spokes.testing.redis_server import redis_server

_CLOSE_S: Final = 20.0


class KitSession:
    """Starts on the first test, and is closed after the last one."""

    def __init__(self, redis: str, project: Path) -> None:
        """Use the Redis of that name (see redis_server), and import handlers from the folder of the project."""
        self._stack = ExitStack()
        self._redis_url = self._stack.enter_context(redis_server(redis))
        self._loop = BackgroundLoop()
        self._stack.callback(self._loop.close)
        self._deployment: KitDeployment | None = None
        self._made_for: tuple[object, ...] = ()
        self._logs = LogCapture()
        gc.freeze()  # loaded modules are never garbage: collecting among them takes longer than a test
        if str(project) not in sys.path:
            sys.path.insert(0, str(project))

    def begin_test(self, handlers: str | Router, settings: Mapping[str, str], portal_ids: Sequence[int]) -> Spokes:
        """Return the kit of one test.

        Raises:
            ConfigurationError: the handlers cannot be loaded, or a setting is wrong.
        """
        self._logs.start()  # what the start of the receiver logs is none of the test's
        try:
            deployment = self._prepare(handlers, settings, portal_ids)
        except BaseException:
            self._logs.stop()
            raise
        self._logs.lines = []
        return Spokes(deployment, self._loop, self._logs)

    def _prepare(self, handlers: str | Router, settings: Mapping[str, str], portal_ids: Sequence[int]) -> KitDeployment:
        """Return an empty deployment with these handlers and settings: that of the last test, if it had the same."""
        made_for = (handlers, tuple(sorted(settings.items())), tuple(portal_ids))
        if self._deployment is None or self._made_for != made_for:
            self._close_deployment()
            with patch.dict(os.environ, settings):  # what the settings of the handlers read
                router = load_router(handlers) if isinstance(handlers, str) else handlers
            deployment = KitDeployment(self._redis_url, router, settings, portal_ids)
            self._loop.run_blocking(deployment.open())
            self._deployment, self._made_for = deployment, made_for
        self._loop.run_blocking(self._deployment.begin_test())
        return self._deployment

    async def left_behind(self) -> str:
        """End the test's worker; return sentences about what its handlers have not awaited, or nothing."""
        if self._deployment is None:
            return ""
        await self._loop.run(self._deployment.end_workers())
        return " ".join(filter(None, [self.unawaited(), await self._loop.run(self._loop.left_behind())]))

    def unawaited(self) -> str:
        """Return a sentence about each call of `tools` without await, or nothing; each line of code once."""
        runs = self._deployment.recorder.runs if self._deployment else []
        return " ".join(dict.fromkeys(sentence for run in runs for sentence in run.unawaited))

    @staticmethod
    async def end_tasks(tasks: list[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
        """Cancel tasks of the test's own event loop; return those that ignore it; their end is not awaited."""
        ignoring = await end_tasks(tasks)
        for task in ignoring:
            asyncio.tasks._unregister_task(task)  # noqa: SLF001 - for those who end loops; runners wait for others
        return ignoring

    def end_test(self) -> None:
        """End the test."""
        self._logs.stop()
        if self._deployment is not None:
            self._loop.run_blocking(self._deployment.end_test(), _CLOSE_S)
            self._loop.run_blocking(self._loop.left_behind(), _CLOSE_S)

    def close(self) -> None:
        """Close everything."""
        self._close_deployment()
        self._stack.close()

    def _close_deployment(self) -> None:
        if self._deployment is not None:
            self._loop.run_blocking(self._deployment.close(), _CLOSE_S)
            self._deployment = None
