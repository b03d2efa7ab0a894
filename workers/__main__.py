"""`python -m workers`: run a worker process; a missing setting ends it with a sentence and exit code 2."""

from spokes.core.process.signals import exit_on_signals, ignore_signals

if __name__ == "__main__":
    exit_on_signals()  # the imports below take a second or two

import argparse
import asyncio
import gc
import os
import sys
from contextlib import suppress
from typing import Final

import structlog

from spokes.audit.entry_signature import sign_entries
from spokes.audit.sql.engine import ignore_orphaned_copy_errors
from spokes.core.errors import ConfigurationError, NotAuthorized
from spokes.core.process.env_file import read_env_file
from spokes.core.process.private_files import keep_files_private
from spokes.core.settings import Settings
from spokes.core.telemetry.setup import setup_telemetry
from spokes.start_check import read_settings
from workers.event_loop import run_until_done
from workers.protected_process import protect_process
from workers.worker import build_worker

# New objects until the garbage collector runs. A worker holds thousands of events, which are not garbage: at Python's
# default of 700 it spends a fifth of its time traversing them.
_GC_THRESHOLD: Final = 50_000
_CLOSE_S: Final = 10
log = structlog.get_logger()


def main() -> int:
    """Run until SIGTERM or SIGINT; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m workers",
        description="Run a worker process: it runs the handlers for the deliveries that the web process queued. "
        "All settings come from the environment; README.md lists them.",
    )
    parser.add_argument("--burst", action="store_true", help="exit when the queue is empty")
    arguments = parser.parse_args()
    keep_files_private()
    try:
        read_env_file()
        settings = read_settings(required=() if os.environ.get("HUBSPOT_CLIENT_ID") else ("HUBSPOT_ACCESS_TOKEN",))
        setup_telemetry(settings, "worker")
        sign_entries(settings)
        protect_process()
        return run_until_done(_run(settings, burst=arguments.burst))
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the log may not be set up yet
        return 2
    except NotAuthorized:
        print("HubSpot refuses HUBSPOT_ACCESS_TOKEN. Copy the token from the Auth page of your app.", file=sys.stderr)  # noqa: T201 - the last message of a process that cannot run
        return 2


async def _run(settings: Settings, *, burst: bool) -> int:
    """Run the worker; return the exit code."""
    asyncio.get_running_loop().set_exception_handler(ignore_orphaned_copy_errors)
    worker = build_worker(settings, burst=burst)
    gc.freeze()  # loaded modules are never garbage
    gc.set_threshold(_GC_THRESHOLD, 10, 10)
    try:
        await worker.async_run()
    except asyncio.CancelledError:
        if worker.allow_pick_jobs:  # arq ends this way too, after a signal
            log.warning("worker_cancelled", advice="A handler cancelled all tasks of the worker. It must be restarted.")
            return 1
    finally:
        # Only if Redis is unusable would this take longer; after a signal, the worker limits its shutdown by itself.
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await worker.close()
        ignore_signals(asyncio.get_running_loop())
    return 0


if __name__ == "__main__":
    sys.exit(main())
