"""`python -m ingest`: run the web process. Rule: set up, run, and say in a sentence what is missing."""

import argparse
import gc
import sys

import uvloop
from aiohttp import web

from core.errors import ConfigurationError
from core.settings import RECEIVER_PATH, Settings
from core.telemetry import setup
from ingest.app import create_app

_SHUTDOWN_S = 20.0  # what is in flight may take this long; Heroku kills a dyno after 30 s


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
        app = create_app(settings)
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the log may not be set up yet
        return 2
    # What was loaded stays; and what a request makes has no cycles, so looking for them after every few is wasted.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    uvloop.install()
    web.run_app(app, host=settings.host, port=settings.port, access_log=None, print=None, shutdown_timeout=_SHUTDOWN_S)
    return 0


if __name__ == "__main__":
    sys.exit(main())
