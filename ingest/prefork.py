"""Several web processes on one port under gunicorn, which starts, watches and ends them; all run the same app."""

import os
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from gunicorn.app.base import BaseApplication

from ingest.app import create_app
from ingest.server.http_server import app_runner
from spokes.core.settings import Settings

_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_CLOSE_S: Final = 5  # for closing connections after the requests in flight; Heroku kills a dyno after 30 s


class PreforkServer(BaseApplication):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn, configured from our settings alone."""

    def __init__(self, settings: Settings, *, graceful_s: int, child_folder: Path | None) -> None:
        """Prepare to serve.

        Args:
            settings: of the deployment.
            graceful_s: time for requests in flight at shutdown.
            child_folder: see `temporary_child_folder`.

        Raises:
            ConfigurationError: HANDLERS or ALLOWED_EVENTS is wrong.
        """
        self._settings = settings
        self._graceful_s = graceful_s
        self._child_folder = child_folder
        create_app(settings)  # so that a wrong setting fails the start here, and not in one child after another
        block, unblock = (
            partial(signal.pthread_sigmask, how, _STOP_SIGNALS) for how in (signal.SIG_BLOCK, signal.SIG_UNBLOCK)
        )
        os.register_at_fork(before=block, after_in_parent=unblock, after_in_child=_restore_default_signals)
        super().__init__()

    def load_config(self) -> None:
        """Configure gunicorn; called by it."""
        settings: dict[str, Any] = {
            "bind": f"{self._settings.host}:{self._settings.port}",
            "workers": self._settings.web_concurrency,
            "worker_class": "aiohttp.worker.GunicornUVLoopWebWorker",
            "graceful_timeout": self._graceful_s + _CLOSE_S,
            "loglevel": "warning",
            "accesslog": None,
            "control_socket_disable": True,
        }
        for name, value in settings.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Callable[[], Awaitable[web.AppRunner]]:
        """Return the coroutine function that makes the application's runner; called in each process."""

        async def make_runner() -> web.AppRunner:
            app = create_app(self._settings, child_folder=self._child_folder)
            return app_runner(app, graceful_s=self._graceful_s)

        return make_runner


def _restore_default_signals() -> None:
    """Let SIGTERM end a new child at once.

    The child inherits gunicorn's signal handlers, which do nothing there until it has set up its own.
    """
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
