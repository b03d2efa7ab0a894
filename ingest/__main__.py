"""`python -m ingest`: run the web process, or several. Rule: set up, run, and say in a sentence what is missing."""

from spokes.core.signals import end_at_once_when_told, hear_no_more

if __name__ == "__main__":
    end_at_once_when_told()  # what follows takes a second to load

import argparse
import gc
import sys
from pathlib import Path

from ingest.server.console_proxy import console_folder
from spokes.core.errors import ConfigurationError
from spokes.core.settings import RECEIVER_PATH, Settings
from spokes.core.telemetry.setup import setup

_SHUTDOWN_S = 20  # what is in flight may take this long; Heroku kills a dyno after 30 s


def main() -> int:
    """Run until SIGTERM or SIGINT; return the exit code."""
    argparse.ArgumentParser(
        prog="python -m ingest",
        description=f"The web process: takes HubSpot's deliveries in at {RECEIVER_PATH} and queues them in Redis. "
        "All its settings come from the environment; README.md lists them.",
    ).parse_args()
    try:
        settings = Settings.from_env(needs=("HUBSPOT_CLIENT_SECRET", "PUBLIC_URL"))
        setup(settings, "web")
        with console_folder(settings) as console:
            if settings.web_concurrency == 1:
                _run_one(settings, console)
            else:
                _run_several(settings, console)
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the log may not be set up yet
        return 2
    return 0


def _run_one(settings: Settings, console: Path | None) -> None:
    """Run in this process."""
    import uvloop  # noqa: PLC0415 - gunicorn brings its own way to it

    from ingest.app import create_app  # noqa: PLC0415 - gunicorn's processes load it themselves
    from ingest.server.http_server import serve  # noqa: PLC0415 - likewise

    app = create_app(settings, console=console)
    _settle_memory()
    uvloop.run(serve(app, settings, graceful_s=_SHUTDOWN_S))


def _run_several(settings: Settings, console: Path | None) -> None:
    """Run WEB_CONCURRENCY processes on one port under gunicorn, which replaces those that die."""
    from ingest.prefork import Server  # noqa: PLC0415 - loads gunicorn, which one process does not need

    server = Server(settings, graceful_s=_SHUTDOWN_S, console=console)
    _settle_memory()
    try:
        server.run()
    finally:
        hear_no_more()


def _settle_memory() -> None:
    """What was loaded stays; what a request makes has no cycles, so looking for them after every few is wasted."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


if __name__ == "__main__":
    sys.exit(main())
