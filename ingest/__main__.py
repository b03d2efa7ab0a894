"""`python -m ingest`: run one web process, or several under gunicorn."""

from spokes.core.process.signals import exit_on_signals, ignore_signals

if __name__ == "__main__":
    exit_on_signals()  # before the imports below, which take a second

import argparse
import gc
import sys
from pathlib import Path

from ingest.database_check import check_database
from ingest.server.connection_limits import raise_file_limit
from ingest.server.supervised_child import temporary_child_folder
from spokes.audit.entry_signature import sign_entries
from spokes.core.errors import ConfigurationError
from spokes.core.process.env_file import read_env_file
from spokes.core.process.listening_port import check_address
from spokes.core.process.private_files import keep_files_private
from spokes.core.settings import RECEIVER_PATH, Settings
from spokes.core.telemetry.setup import setup_telemetry
from spokes.start_check import read_settings

_SHUTDOWN_S = 20  # for requests in flight; Heroku kills a dyno after 30 s


def main() -> int:
    """Run until SIGTERM or SIGINT; return the exit code."""
    argparse.ArgumentParser(
        prog="python -m ingest",
        description=f"The web process: receives HubSpot's deliveries at {RECEIVER_PATH} and queues them in Redis. "
        "It is configured by environment variables only; README.md lists them.",
    ).parse_args()
    keep_files_private()
    try:
        read_env_file()
        settings = read_settings(required=("HUBSPOT_CLIENT_SECRET", "PUBLIC_URL"))
        _check_installs(settings)
        setup_telemetry(settings, "web")
        check_address(settings.host, settings.port)
        sign_entries(settings)
        check_database(settings)
        raise_file_limit()
        with temporary_child_folder(settings) as child_folder:
            if settings.web_concurrency == 1:
                _run_single_process(settings, child_folder)
            else:
                _run_prefork(settings, child_folder)
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 - logging may not be configured yet
        return 2
    return 0


def _check_installs(settings: Settings) -> None:
    """Refuse a deployment that customers could not install, although HUBSPOT_CLIENT_ID says that they may.

    Raises:
        ConfigurationError: there is no console, whose process serves installs.
    """
    if settings.hubspot_client_id and not settings.console_key.get_secret_value():
        sentence = (
            "CONSOLE_KEY is not set: HUBSPOT_CLIENT_ID enables /oauth/install, which the console's process serves. Set "
            "CONSOLE_KEY to the output of `openssl rand -hex 32`."
        )
        raise ConfigurationError([sentence])


def _run_single_process(settings: Settings, child_folder: Path | None) -> None:
    """Serve in this process."""
    import uvloop  # noqa: PLC0415 - gunicorn loads it by itself

    from ingest.app import create_app  # noqa: PLC0415 - gunicorn's processes load it themselves
    from ingest.server.http_server import serve  # noqa: PLC0415 - likewise

    app = create_app(settings, child_folder=child_folder)
    _freeze_gc()
    uvloop.run(serve(app, settings, graceful_s=_SHUTDOWN_S))


def _run_prefork(settings: Settings, child_folder: Path | None) -> None:
    """Serve in WEB_CONCURRENCY processes on one port; gunicorn replaces those that die."""
    from ingest.prefork import PreforkServer  # noqa: PLC0415 - loads gunicorn, which a single process does not need

    server = PreforkServer(settings, graceful_s=_SHUTDOWN_S, child_folder=child_folder)
    _freeze_gc()
    try:
        server.run()
    finally:
        ignore_signals()


def _freeze_gc() -> None:
    """Exempt everything loaded so far from garbage collection, and collect rarely.

    Loaded modules stay for good, and requests make no reference cycles, so frequent collections would find nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


if __name__ == "__main__":
    sys.exit(main())
