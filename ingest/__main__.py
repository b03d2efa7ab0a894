"""`python -m ingest`: run the web process, or several. Rule: set up, run, and say in a sentence what is missing."""

from spokes.core.signals import exit_on_signals, ignore_signals

if __name__ == "__main__":
    exit_on_signals()  # what follows takes a second to load

import argparse
import gc
import sys
from pathlib import Path

from ingest.server.console_proxy import temporary_console_folder
from spokes.core.errors import ConfigurationError
from spokes.core.settings import RECEIVER_PATH, Settings
from spokes.core.telemetry.setup import setup_telemetry

_SHUTDOWN_S = 20  # what is in flight may take this long; Heroku kills a dyno after 30 s


def main() -> int:
    """Run until SIGTERM or SIGINT; return the exit code."""
    argparse.ArgumentParser(
        prog="python -m ingest",
        description=f"The web process: takes HubSpot's deliveries in at {RECEIVER_PATH} and queues them in Redis. "
        "All its settings come from the environment; README.md lists them.",
    ).parse_args()
    try:
        settings = Settings.from_env(required=("HUBSPOT_CLIENT_SECRET", "PUBLIC_URL"))
        setup_telemetry(settings, "web")
        with temporary_console_folder(settings) as console:
            if settings.web_concurrency == 1:
                _run_single_process(settings, console)
            else:
                _run_prefork(settings, console)
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the log may not be set up yet
        return 2
    return 0


def _run_single_process(settings: Settings, console: Path | None) -> None:
    """Run in this process."""
    import uvloop  # noqa: PLC0415 - gunicorn brings its own way to it

    from ingest.app import create_app  # noqa: PLC0415 - gunicorn's processes load it themselves
    from ingest.server.http_server import serve  # noqa: PLC0415 - likewise

    app = create_app(settings, console_folder=console)
    _freeze_gc()
    uvloop.run(serve(app, settings, graceful_s=_SHUTDOWN_S))


def _run_prefork(settings: Settings, console: Path | None) -> None:
    """Run WEB_CONCURRENCY processes on one port under gunicorn, which replaces those that die."""
    from ingest.prefork import PreforkServer  # noqa: PLC0415 - loads gunicorn, which one process does not need

    server = PreforkServer(settings, graceful_s=_SHUTDOWN_S, console_folder=console)
    _freeze_gc()
    try:
        server.run()
    finally:
        ignore_signals()


def _freeze_gc() -> None:
    """What was loaded stays; what a request makes has no cycles, so looking for them after every few is wasted."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


if __name__ == "__main__":
    sys.exit(main())
