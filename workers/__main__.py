"""`python -m workers`: run a worker process. Rule: set up, run, and say in a sentence what is missing."""

from spokes.core.signals import exit_on_signals, ignore_signals

if __name__ == "__main__":
    exit_on_signals()  # what follows takes a second or two to load

import argparse
import asyncio
import gc
import sys
from typing import Final

import uvloop

from spokes.audit.sql.engine import ignore_orphaned_copy_errors
from spokes.core.errors import ConfigurationError, NotAuthorized
from spokes.core.settings import Settings
from spokes.core.telemetry.setup import setup_telemetry
from workers.worker import build_worker

# New objects before the collector looks for circles among them. A worker holds thousands of events at a time, which
# are no garbage: at Python's own 700 it spends a fifth of its time looking at them over and over.
_GC_THRESHOLD: Final = 50_000


def main() -> int:
    """Run until SIGTERM or SIGINT; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m workers",
        description="A worker process: works off the deliveries that the web process queued. "
        "All its settings come from the environment; README.md lists them.",
    )
    parser.add_argument("--burst", action="store_true", help="end when the queue is empty")
    arguments = parser.parse_args()
    try:
        settings = Settings.from_env(required=("HUBSPOT_ACCESS_TOKEN",))
        setup_telemetry(settings, "worker")
        uvloop.run(_run(settings, burst=arguments.burst))
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the log may not be set up yet
        return 2
    except NotAuthorized:
        print("HubSpot refuses HUBSPOT_ACCESS_TOKEN. Copy the token from the Auth page of your app.", file=sys.stderr)  # noqa: T201 - the last word of a process that cannot go on
        return 2
    return 0


async def _run(settings: Settings, *, burst: bool) -> None:
    asyncio.get_running_loop().set_exception_handler(ignore_orphaned_copy_errors)
    worker = build_worker(settings, burst=burst)
    gc.freeze()  # what was loaded stays
    gc.set_threshold(_GC_THRESHOLD, 10, 10)
    try:
        await worker.async_run()
    except asyncio.CancelledError:
        pass  # how arq ends after a signal
    finally:
        await worker.close()
        ignore_signals(asyncio.get_running_loop())


if __name__ == "__main__":
    sys.exit(main())
