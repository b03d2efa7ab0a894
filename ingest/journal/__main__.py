"""`python -m ingest.journal`: run the reader of HubSpot's webhooks journal; of several, one reads at a time."""

from spokes.core.process.signals import exit_on_signals, ignore_signals

if __name__ == "__main__":
    exit_on_signals()  # before the imports below, which take a second

import argparse
import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

from ingest.database_check import check_database
from ingest.journal.process import run_reader
from spokes.audit.entry_signature import sign_entries
from spokes.core.errors import ConfigurationError
from spokes.core.process.env_file import read_env_file
from spokes.core.process.private_files import keep_files_private
from spokes.core.settings.cross_checks import journal_problems
from spokes.core.telemetry.setup import setup_telemetry
from spokes.start_check import read_settings

if TYPE_CHECKING:
    from collections.abc import Coroutine


def main() -> int:
    """Run until SIGTERM or SIGINT; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m ingest.journal",
        description="The reader of HubSpot's webhooks journal: it queues the events that pushes have missed. "
        "It is configured by environment variables only; README.md lists them.",
    )
    parser.add_argument("--with-parent", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    keep_files_private()
    try:
        read_env_file()
        settings = read_settings(required=("HUBSPOT_CLIENT_ID", "HUBSPOT_CLIENT_SECRET"))
        if problems := [*journal_problems(settings)]:
            raise ConfigurationError(problems)  # noqa: TRY301 - reported like every other one
        setup_telemetry(settings, "journal")
        sign_entries(settings)
        check_database(settings)
        asyncio.run(_run_until_stopped(run_reader(settings), with_parent=arguments.with_parent))
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 - logging may not be configured yet
        return 2
    return 0


async def _run_until_stopped(reading: "Coroutine[None, None, None]", *, with_parent: bool) -> None:
    """Read until a signal arrives or, `with_parent`, until standard input closes, as it does when the parent ends."""
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(reading)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    if with_parent:
        loop.add_reader(sys.stdin, lambda: None if os.read(sys.stdin.fileno(), 1024) else task.cancel())
    try:
        await task
    except asyncio.CancelledError:
        ignore_signals(loop)


if __name__ == "__main__":
    sys.exit(main())
