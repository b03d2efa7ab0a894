"""Several web processes on one port. Rule: gunicorn starts, watches and ends them; each runs the same application."""

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
_CLOSE_S: Final = 5  # for closing what is open, after what was in flight; Heroku kills a dyno after 30 s


class PreforkServer(BaseApplication):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn, set up from our settings and from nothing else."""

    def __init__(self, settings: Settings, *, graceful_s: int, console_folder: Path | None) -> None:
        """Serve what `settings` ask for.

        Args:
            settings: of the deployment.
            graceful_s: what is in flight at the end may take so long.
            console: the console's folder, if there is one.

        Raises:
            ConfigurationError: HANDLERS or ALLOWED_EVENTS is wrong.
        """
        self._settings = settings
        self._graceful_s = graceful_s
        self._console_folder = console_folder
        create_app(settings)  # so that a wrong setting ends the start, and not one process after the other
        hold, let_go = (
            partial(signal.pthread_sigmask, how, _STOP_SIGNALS) for how in (signal.SIG_BLOCK, signal.SIG_UNBLOCK)
        )
        os.register_at_fork(before=hold, after_in_parent=let_go, after_in_child=_restore_default_signals)
        super().__init__()

    def load_config(self) -> None:
        """Tell gunicorn; called by it."""
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
        """Return what makes the application's runner; called in each process."""

        async def make() -> web.AppRunner:
            return app_runner(
                create_app(self._settings, console_folder=self._console_folder), graceful_s=self._graceful_s
            )

        return make


def _restore_default_signals() -> None:
    """Let a process that has only begun end at once when told to; it has gunicorn's own ear, which is deaf in it."""
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
